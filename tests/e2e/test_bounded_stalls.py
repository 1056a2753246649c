# SPDX-License-Identifier: BSD-3-Clause
"""What the application waits at most, whatever falls silent (the table in docs/promises.md)."""

import threading
import time

import nbd
import pytest

from lib import environment, processes

pytestmark = pytest.mark.door

MIB = 1024 * 1024
PEER_TIMEOUT = 2 * environment.slowness()
DISK_TIMEOUT = 2 * environment.slowness()
MARGIN = 2 * environment.slowness()


def start(cluster, *volumes):
    cluster.start()
    for volume in volumes or ("r0",):
        cluster.alpha.ctl("create", volume, "--overwrite-peer", "--yes")
        cluster.alpha.ctl("promote", volume)
        cluster.wait_in_sync(cluster.alpha, volume)


def finish(cluster, load, active, volume="r0"):
    load.wait_progress()
    load.stop()
    assert not load.errors, load.errors[:5]
    cluster.wait_in_sync(active, volume)
    active.ctl("demote", volume)
    cluster.assert_replicas_equal(volume)
    for node in cluster.nodes:
        load.verify_file(cluster.backing(node, volume))


def measure(load, bound):
    """The longest pause since reset_measures(); printed, for docs/promises.md."""
    print(f"longest latency {load.longest_latency:.2f} s, longest pause "
          f"{load.longest_pause:.2f} s, bound {bound:.1f} s")
    assert max(load.longest_latency, load.longest_pause) <= bound


def test_a_peer_that_is_stopped_holds_the_application_for_peer_timeout(make_cluster, make_load):
    cluster = make_cluster()
    start(cluster)
    load = make_load([cluster.alpha.socket()], count=4096).start()
    load.wait_progress()
    load.reset_measures()
    cluster.beta.pause()
    cluster.wait_state(cluster.alpha, "broken")
    load.wait_progress()
    measure(load, PEER_TIMEOUT + MARGIN)
    cluster.beta.go_on()
    load.assert_undisturbed()
    finish(cluster, load, cluster.alpha)


def test_a_black_hole_holds_the_application_for_peer_timeout(make_cluster, namespaces, make_load):
    cluster = make_cluster()
    network = namespaces(cluster)
    start(cluster)
    load = make_load([cluster.alpha.socket()], count=4096).start()
    load.wait_progress()
    load.reset_measures()
    network.drop_packets()
    cluster.wait_state(cluster.alpha, "broken")
    # Attempts to reach the peer go on meanwhile, and hold nobody up.
    before = time.monotonic()
    while time.monotonic() < before + 3 * PEER_TIMEOUT:
        load.wait_progress(50)
    measure(load, PEER_TIMEOUT + MARGIN)
    network.heal()
    load.assert_undisturbed()
    finish(cluster, load, cluster.alpha)


def test_a_hung_disk_of_the_peer_holds_the_application_for_peer_timeout_and_no_other_volume(
        make_cluster, fuse_backing, make_load):
    cluster = make_cluster({"r0": {}, "r1": {}})
    disk = fuse_backing(cluster, cluster.beta)
    start(cluster, "r0", "r1")
    load = make_load([cluster.alpha.socket()], count=4096).start()
    other = make_load([cluster.alpha.socket("r1")], count=4096).start()
    load.wait_progress()
    load.reset_measures()
    disk.hang()
    other.reset_measures()
    cluster.wait_state(cluster.alpha, "broken")
    threads = []
    for _ in range(5):
        load.wait_progress(100)
        other.wait_progress(100)
        began = time.monotonic()
        assert cluster.beta.state("r1") == "in-sync"
        cluster.beta.state("r0")
        assert time.monotonic() - began < PEER_TIMEOUT + MARGIN
        threads.append(processes.status_field(cluster.beta.daemon.pid, "Threads"))
        time.sleep(1)  # lets the active try again; nothing is waited for
    measure(load, PEER_TIMEOUT + MARGIN)
    measure(other, MARGIN)
    assert max(threads) < 60, threads
    assert cluster.alpha.state("r1") == "in-sync"
    disk.go_on()
    load.assert_undisturbed()
    other.assert_undisturbed()
    finish(cluster, load, cluster.alpha)
    finish(cluster, other, cluster.alpha, "r1")


def test_a_hung_disk_here_holds_the_application_for_disk_timeout(
        make_cluster, fuse_backing, make_load):
    cluster = make_cluster({"r0": {"disk_timeout": f"{int(DISK_TIMEOUT)}s"}})
    disk = fuse_backing(cluster, cluster.alpha)
    start(cluster)
    load = make_load([node.socket() for node in cluster.nodes], count=4096).start()
    load.wait_progress()
    load.reset_measures()
    disk.hang()

    def left_out():
        status = cluster.alpha.status()
        assert status["replica"]["state"] == "failed", status["why"]
        return status
    status = cluster.wait(left_out, "the replica of alpha to be left out")
    assert "no answer for" in status["why"]
    assert status["replica"]["media"]["timeouts"] >= 1
    load.wait_progress()
    measure(load, DISK_TIMEOUT + MARGIN)
    load.assert_undisturbed()
    cluster.wait_event(cluster.alpha, "local-disk-failed")

    # The way on, with the disk still hanging.
    cluster.alpha.ctl("switch", "r0", "--to", "beta", "--disconnect-clients")
    load.wait_progress()
    assert cluster.alpha.state() == "failed"
    refused = cluster.alpha.ctl("create", "r0", "--replace", "--yes", check=False)
    assert refused.code == 1, refused
    assert cluster.beta.status()["role"] == "active"
    # A disk that comes back is not believed: all of it is compared.
    compared = len(cluster.beta.events("resync-done"))
    disk.go_on()
    cluster.wait_in_sync(cluster.beta)
    assert "compared 64 MiB" in cluster.beta.events("resync-done")[compared]["text"]
    finish(cluster, load, cluster.beta)


def test_a_switch_waits_for_nothing_on_the_disk_that_hangs(make_cluster, fuse_backing):
    """A read that hangs may keep the file from being opened, too: that is not for mirrord to try."""
    cluster = make_cluster({"r0": {"disk_timeout": f"{int(DISK_TIMEOUT)}s"}})
    disk = fuse_backing(cluster, cluster.alpha)
    start(cluster)
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    handle.pwrite(b"\x55" * MIB, 0)
    disk.forget_cache()
    disk.hang()
    assert handle.pread(MIB, 0) == b"\x55" * MIB
    assert cluster.alpha.status()["replica"]["state"] == "failed"
    began = time.monotonic()
    cluster.alpha.ctl("switch", "r0", "--to", "beta", "--disconnect-clients")
    assert time.monotonic() - began < 10 * environment.slowness()
    assert "hangs" in cluster.alpha.status()["why"]
    disk.go_on()
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_slow_link_holds_the_application_for_twice_peer_timeout(make_cluster, make_load):
    """10 kB/s: bytes move all the time, and no large write can be through in time."""
    cluster = make_cluster(proxied=True)
    start(cluster)
    load = make_load([cluster.alpha.socket()], count=4096, depth=4).start()
    load.wait_progress()
    load.reset_measures()
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    for proxy in cluster.proxies.values():
        proxy.slow(10000)
    durations = []

    def write_large():
        for size in (1, 8, 32):
            began = time.monotonic()
            handle.pwrite(b"\x77" * (size * MIB), 20 * MIB)
            durations.append(time.monotonic() - began)
    writer = threading.Thread(target=write_large)
    writer.start()
    writer.join(20 * (PEER_TIMEOUT + MARGIN))
    assert len(durations) == 3, durations
    began = time.monotonic()
    while time.monotonic() < began + 6 * PEER_TIMEOUT:
        load.wait_progress(1)
    bound = 2 * PEER_TIMEOUT + MARGIN
    print(f"large writes took {durations}")
    measure(load, bound)
    assert max(durations) <= bound
    for proxy in cluster.proxies.values():
        proxy.open()
    handle.shutdown()
    load.assert_undisturbed()
    finish(cluster, load, cluster.alpha)
