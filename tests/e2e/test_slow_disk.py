# SPDX-License-Identifier: BSD-3-Clause
"""A standby whose disk is slow: the mirror waits for it while it works, and not when it hangs."""

import threading
import time

import nbd
import pytest

from lib import disks, environment, tools

MIB = 1024 * 1024
PEER_TIMEOUT = 2 * environment.slowness()
MARGIN = 2 * environment.slowness()
SLOW_ZEROES = " ".join(f"{what}={int(400 * environment.slowness())}ms" for what in ("zero", "trim"))


class SlowDisk(disks.FuseDisk):
    """One request at a time, each of which takes its time, as on a disk that has to seek."""

    def __init__(self, *arguments, delay=f"write={int(5 * environment.slowness())}ms", **options):
        self.delay = delay
        super().__init__(*arguments, **options)

    def _plugin(self):
        return ("--filter=noparallel", "--filter=delay", "file", self.image,
                *(f"delay-{word}" for word in self.delay.split()))


def connect(node):
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket()))
    return handle


def start(cluster):
    cluster.start()
    cluster.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)


def assert_unbroken(cluster):
    assert cluster.alpha.state() == "in-sync", cluster.alpha.status()["why"]
    assert not cluster.alpha.events("mirror-break")


@pytest.fixture
def slow_flush(make_cluster, fuse_backing):
    """beta's disk has a page cache, and behind it needs 5 ms for each write."""
    tools.require_tool("losetup")
    cluster = make_cluster()
    disk = fuse_backing(cluster, cluster.beta, kind=SlowDisk)
    cluster.volumes["r0"]["backing.beta"] = cluster.make_loop_device(disk.path)
    cluster.write_config()
    start(cluster)
    return cluster, disk


def write_here_and_there(handle):
    """64 to a MiB, none beside another: a second of writing, and many of them for a disk."""
    for step in range(0, 64, 2):
        for region in range(60):
            handle.pwrite(b"\x5a" * 4096, region * MIB + (step * 7 % 64) * 16384)


@pytest.mark.door
def test_a_flush_that_takes_a_slow_disk_long_does_not_break_the_mirror(slow_flush):
    cluster, _ = slow_flush
    handle = connect(cluster.alpha)
    began = time.monotonic()
    write_here_and_there(handle)
    handle.flush()
    took = time.monotonic() - began
    print(f"written and flushed in {took:.1f} s")
    assert took > 2 * PEER_TIMEOUT, "the disk was not slow enough to show anything"
    assert_unbroken(cluster)
    # Not by a sleep: a checkpoint flushes both, and the demote does.
    handle.shutdown()
    cluster.alpha.ctl("demote", "r0")
    assert not cluster.alpha.events("mirror-break")
    cluster.assert_replicas_equal()


def test_a_slow_disk_that_hangs_in_the_middle_of_a_flush_is_given_up_in_peer_timeout(slow_flush):
    cluster, disk = slow_flush
    handle = connect(cluster.alpha)
    enough = threading.Event()

    def write_and_flush():
        while not enough.is_set():
            write_here_and_there(handle)
            handle.flush()
    writer = threading.Thread(target=write_and_flush)
    writer.start()
    try:
        began = time.monotonic()
        while time.monotonic() < began + 3 * PEER_TIMEOUT:
            assert_unbroken(cluster)
        hung = time.monotonic()
        disk.hang()
        cluster.wait_state(cluster.alpha, "broken")
        took = time.monotonic() - hung
        print(f"given up {took:.1f} s after it hung")
        assert took <= PEER_TIMEOUT + MARGIN
        assert "no answer for" in cluster.alpha.events("mirror-break")[0]["cause"]
    finally:
        enough.set()
        disk.go_on()
    writer.join()
    cluster.wait_in_sync(cluster.alpha, timeout=120)
    handle.shutdown()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_zeroes_that_take_a_slow_disk_long_do_not_break_the_mirror(make_cluster, fuse_backing):
    cluster = make_cluster()
    fuse_backing(cluster, cluster.beta, kind=SlowDisk, delay=SLOW_ZEROES)
    start(cluster)
    began = time.monotonic()
    handle = connect(cluster.alpha)
    pending = [handle.aio_zero(16 * MIB, at * 16 * MIB) for at in range(4)]
    # A small write behind all that has its turn, too.
    handle.pwrite(b"\x77" * 4096, 63 * MIB)
    for cookie in pending:
        while not handle.aio_command_completed(cookie):
            handle.poll(-1)
    took = time.monotonic() - began
    print(f"zeroed in {took:.1f} s")
    assert took > 2 * PEER_TIMEOUT, "the disk was not slow enough to show anything"
    assert_unbroken(cluster)
    handle.shutdown()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
