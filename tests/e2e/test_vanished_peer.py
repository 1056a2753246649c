# SPDX-License-Identifier: BSD-3-Clause
"""Commands whose other node goes without a word: no FIN, no RST, as in a power cut."""

import threading
import time

import pytest

from lib import environment, processes, split_brain

# least_silence of core/nbd/tcp_options.hpp; peer_timeout is shorter here.
SILENCE = 20


@pytest.mark.seconds(180)
def test_a_forwarded_resolve_does_not_outwait_a_node_that_is_gone(
        make_cluster, namespaces, fuse_backing):
    cluster = make_cluster()
    network = namespaces(cluster)
    disk = fuse_backing(cluster, cluster.beta)
    cluster.start()
    cluster.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    images = split_brain.make(cluster, range(8), range(4, 12), network=network)

    # The comparison on beta hangs, so that the request is under way for sure.
    disk.forget_cache()
    disk.hang()
    outcome = []
    asking = threading.Thread(target=lambda: outcome.append(cluster.alpha.ctl(
        "resolve", "r0", "--keep", "alpha", "--yes", check=False)))
    asking.start()
    engine = cluster.beta.engine_pid()
    cluster.wait(lambda: processes.waits_for_disk(engine), "beta to read its disk")
    network.drop_packets()
    began = time.monotonic()
    asking.join(60 * environment.slowness())
    took = time.monotonic() - began
    assert outcome, f"still waiting after {took:.0f} s"
    print(f"gone was noticed after {took:.1f} s: {outcome[0]}")
    assert outcome[0].code in (1, 3), str(outcome[0])
    assert f"no sign of life for {SILENCE}" in outcome[0].err, str(outcome[0])
    assert "once beta is back" in outcome[0].err, str(outcome[0])

    network.heal()
    disk.go_on()

    def decided():
        """By the first request, which goes on over there, or by another one."""
        if cluster.alpha.state() == "in-sync":
            return True
        cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", check=False)
        return False
    cluster.wait(decided, "the split brain to be decided", timeout=120)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    assert cluster.backing(cluster.alpha).read_bytes() == images["alpha"]
