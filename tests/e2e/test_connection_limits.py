# SPDX-License-Identifier: BSD-3-Clause
"""Thousands of strangers at both ports while a mirror works: what they cost is bounded."""

import time

import pytest

from lib import environment, processes
from lib.strangers import Strangers

pytestmark = pytest.mark.door

ROUNDS = 6
ROUND_SECONDS = 2.0
RATE = 400  # new strangers a second at each port
# The mirror keeps at least this part of its writes a second (docs/design.md, section 15).
KEPT = 0.5
# Of ServerLimits: connections in their handshake, each a thread and a descriptor.
HANDSHAKING = 64


class Peak:
    """The most that a process had of what strangers could use up."""

    def __init__(self, pid):
        self._pid = pid
        self.threads = self.files = self.memory = 0

    def look(self):
        self.threads = max(self.threads, processes.status_field(self._pid, "Threads"))
        self.files = max(self.files, processes.open_files(self._pid))
        self.memory = max(self.memory, processes.status_field(self._pid, "VmRSS"))


def writes_in(load, seconds, peaks):
    """Writes answered a second."""
    before, began = load.completed, time.monotonic()
    while time.monotonic() < began + seconds:
        for peak in peaks:
            peak.look()
        time.sleep(0.05)  # a sample, not a wait
    return (load.completed - before) / (time.monotonic() - began)


@pytest.mark.alone
@pytest.mark.seconds(300)
def test_strangers_leave_a_mirror_its_throughput_and_a_daemon_its_bounds(cluster, make_load):
    load = make_load([cluster.alpha.socket()]).start()
    load.wait_progress(2000)
    nodes = [cluster.alpha, cluster.beta]
    before_peaks = [Peak(node.daemon.pid) for node in nodes]
    crowd_peaks = [Peak(node.daemon.pid) for node in nodes]
    writes_in(load, ROUND_SECONDS, before_peaks)
    quiet = crowded = 0.0
    with Strangers(cluster.alpha.address, rate=RATE) as at_alpha, \
            Strangers(cluster.beta.address, rate=RATE) as at_beta:
        for _ in range(ROUNDS):
            quiet += writes_in(load, ROUND_SECONDS, [])
            at_alpha.go()
            at_beta.go()
            crowded += writes_in(load, ROUND_SECONDS, crowd_peaks)
            at_alpha.rest()
            at_beta.rest()
        made = at_alpha.end() + at_beta.end()
    ratio = crowded / quiet
    print(f"{made} strangers; {crowded / ROUNDS:.0f} of {quiet / ROUNDS:.0f} writes/s: {ratio:.2f}")
    assert made > 1000
    assert ratio > KEPT, f"only {ratio:.2f} of the writes a second are left"
    for before, during in zip(before_peaks, crowd_peaks):
        # A thread or descriptor that is being given back counts for a moment.
        assert during.threads <= before.threads + HANDSHAKING + 16, vars(during)
        assert during.files <= before.files + HANDSHAKING + 16, vars(during)
        if not environment.sanitizer():
            assert during.memory <= before.memory + 32 * 1024, vars(during)
    assert not cluster.alpha.events("mirror-break")
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.sanitizers
def test_a_peer_and_local_programs_get_in_while_a_crowd_holds_every_place(cluster, make_load):
    load = make_load([cluster.alpha.socket()], rate=300).start()
    # It is about places. More than the server can accept would wait in the kernel, peers behind.
    rate = int(500 / environment.slowness())
    with Strangers(cluster.alpha.address, rate=rate) as at_alpha, \
            Strangers(cluster.beta.address, rate=rate) as at_beta:
        at_alpha.go()
        at_beta.go()
        for pid in (cluster.alpha.daemon.pid, cluster.beta.daemon.pid):
            quiet = processes.status_field(pid, "Threads")
            cluster.wait(lambda p=pid, q=quiet: processes.status_field(p, "Threads") >=
                         min(q + HANDSHAKING // 2, HANDSHAKING), "the crowd to be there")
        for _ in range(5):
            cluster.alpha.ctl("disconnect", "r0")
            cluster.alpha.ctl("connect", "r0")
            cluster.wait_in_sync(cluster.alpha)
            cluster.beta.ctl("version")
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
