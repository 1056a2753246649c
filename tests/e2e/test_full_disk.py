# SPDX-License-Identifier: BSD-3-Clause
"""A full disk under one backing, or under both."""

import datetime
import errno

import nbd
import pytest

from lib import tools

pytestmark = pytest.mark.door

MIB = 1024 * 1024


@pytest.fixture
def small(make_cluster):
    """make(alpha=…, beta=…): a cluster whose backings lie on file systems of so many MiB."""
    tools.require_root("mounts a small tmpfs")

    def make(**sizes):
        cluster = make_cluster()
        for name, mib in sizes.items():
            point = cluster.mount_tmpfs(f"disk-{name}", mib)
            cluster.volumes["r0"][f"backing.{name}"] = str(point / "r0.img")
        cluster.write_config()
        return cluster.start_active()
    return make


def fill(node, mib):
    """Writes so much; the errno of each write that failed."""
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket()))
    errors = []
    for number in range(mib):
        try:
            handle.pwrite(bytes([number % 255 + 1]) * MIB, number * MIB)
        except nbd.Error as error:
            errors.append(error.errnum)
    return handle, errors


def free(cluster, name, mib):
    tools.run("mount", "-o", f"remount,size={mib}m", cluster.directory / f"disk-{name}")


def test_on_the_standby_it_breaks_the_mirror_and_the_writer_goes_on(small):
    cluster = small(beta=16)
    handle, errors = fill(cluster.alpha, 32)
    handle.shutdown()
    assert not errors
    cluster.wait(lambda: cluster.alpha.state() in ("broken", "resyncing"), "the break")
    cluster.wait(lambda: "space" in str(cluster.alpha.events()).lower(), "the reason in the events")
    event = cluster.wait_event(cluster.alpha, "mirror-break")[0]
    assert "beta" in event["text"] + event["cause"]
    free(cluster, "beta", 80)
    cluster.wait_in_sync(cluster.alpha)
    cluster.assert_replicas_equal()


@pytest.mark.seconds(60)
def test_a_full_standby_is_sent_the_same_ever_more_seldom(small):
    cluster = small(beta=16)
    handle, errors = fill(cluster.alpha, 32)
    handle.shutdown()
    assert not errors
    tries = cluster.wait_event(cluster.alpha, "resync-interrupted", count=6, timeout=60)
    at = [datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")) for event in tries]
    waits = [(after - before).total_seconds() for before, after in zip(at, at[1:])]
    # After 1, 2, 4, 8 seconds and more, each by a quarter shorter or longer; the first ones may come
    # sooner, since a standby that meets its full disk ends a session that began well.
    assert max(waits) >= 5, waits
    free(cluster, "beta", 80)
    cluster.alpha.ctl("resync", "r0")
    cluster.wait_in_sync(cluster.alpha, timeout=10)
    cluster.assert_replicas_equal()


def test_on_the_active_the_peer_takes_the_write(small):
    cluster = small(alpha=16)
    handle, errors = fill(cluster.alpha, 32)
    assert not errors
    for number in range(32):
        assert handle.pread(MIB, number * MIB) == bytes([number % 255 + 1]) * MIB
    handle.shutdown()

    def seen():
        status = cluster.alpha.status()
        assert status["replica"]["state"] == "failed", status
        assert "space" in status["why"].lower(), status["why"]
        return True
    cluster.wait(seen, "status to say that alpha's disk is full")


def test_on_both_the_writer_gets_enospc_and_nothing_else_breaks(small):
    cluster = small(alpha=16, beta=16)
    handle, errors = fill(cluster.alpha, 32)
    assert errors
    assert set(errors) == {errno.ENOSPC}
    for number in range(32 - len(errors)):
        assert handle.pread(MIB, number * MIB) == bytes([number % 255 + 1]) * MIB
    handle.shutdown()
