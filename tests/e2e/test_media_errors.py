# SPDX-License-Identifier: BSD-3-Clause
"""Disks that give errors: the application hardly notices, status and events say all of it."""

import nbd
import pytest

from lib import environment
from lib.disks import SoreDisk

MIB = 1024 * 1024


def start(cluster):
    """As Cluster.start_active, where a backing may look as if it held data."""
    cluster.start()
    cluster.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)


def wait_replica(cluster, node, state):
    def reached():
        found = node.status()["replica"]["state"]
        assert found == state, f"the replica of {node.name} is {found}"
        return True
    cluster.wait(reached, f"the replica of {node.name} to be {state}")


def finish(cluster, load, active):
    """Stops the load; both replicas hold what it wrote, byte by byte."""
    load.wait_progress()
    load.stop()
    assert not load.errors, load.errors[:5]
    cluster.wait_in_sync(active)
    active.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    for node in cluster.nodes:
        load.verify_file(cluster.backing(node))


@pytest.mark.door
def test_what_the_active_cannot_read_comes_from_the_peer_and_is_repaired(
        make_cluster, fuse_backing):
    cluster = make_cluster()
    disk = fuse_backing(cluster, cluster.alpha)
    start(cluster)
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    for number in range(32):
        handle.pwrite(bytes([number + 1]) * MIB, number * MIB)
    handle.flush()
    disk.forget_cache()
    disk.fail("read")
    for number in range(32):
        assert handle.pread(MIB, number * MIB) == bytes([number + 1]) * MIB
    disk.heal()
    status = cluster.alpha.status()
    media = status["replica"]["media"]
    assert status["state"] == "in-sync"
    assert media["read_errors"] >= 1
    assert media["repaired"] == media["read_errors"]
    assert media["ranges"][0]["operation"] == "read"
    assert media["ranges"][0]["action"] == "repaired"
    assert media["ranges"][0]["length_bytes"] >= MIB
    assert status["replica"]["media_errors"] == media["read_errors"]
    assert "repaired" in cluster.alpha.ctl("status", "r0").out
    # One event now and then, however many errors there are.
    assert len(cluster.alpha.events("media-error")) <= 1 + media["read_errors"] // 8
    handle.shutdown()
    disk.forget_cache()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def leave_out_alphas_disk(make_cluster, fuse_backing):
    """alpha serves beta's copy, which alone has the last write."""
    cluster = make_cluster()
    disk = fuse_backing(cluster, cluster.alpha)
    start(cluster)
    disk.fail("write")
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    handle.pwrite(b"acknowledged" * 1024, MIB)
    handle.flush()
    handle.shutdown()
    wait_replica(cluster, cluster.alpha, "failed")
    return cluster


def test_an_engine_that_serves_the_peers_copy_is_not_replaced(make_cluster, fuse_backing):
    cluster = leave_out_alphas_disk(make_cluster, fuse_backing)
    old = cluster.alpha.engine_pid()
    for verb in (("restart-engine", "r0"), ("restart-engine", "r0", "--dry-run")):
        refused = cluster.alpha.ctl(*verb, "--disconnect-clients", check=False)
        assert refused.code == 1 and "mirrorctl switch r0 --to beta" in refused.err, refused
    assert cluster.alpha.engine_pid() == old
    cluster.alpha.ctl("switch", "r0", "--to", "beta")
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.beta.socket()))
    assert handle.pread(12288, MIB) == b"acknowledged" * 1024


def test_an_engine_that_died_does_not_serve_a_replica_that_was_left_out(make_cluster, fuse_backing):
    cluster = leave_out_alphas_disk(make_cluster, fuse_backing)
    cluster.beta.kill_daemon()
    cluster.alpha.kill_engine()
    event = cluster.wait_event(cluster.alpha, "demoted")[0]
    assert "beta continued without it" in event["cause"], event
    assert not cluster.alpha.engine_pid()
    cluster.beta.start()
    cluster.beta.ctl("promote", "r0")
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.beta.socket()))
    assert handle.pread(12288, MIB) == b"acknowledged" * 1024


@pytest.mark.door
def test_a_write_error_here_leaves_the_replica_out_and_a_new_disk_comes_back(
        make_cluster, fuse_backing, make_load):
    cluster = make_cluster()
    disk = fuse_backing(cluster, cluster.alpha)
    start(cluster)
    load = make_load([node.socket() for node in cluster.nodes], count=4096).start()
    load.wait_progress()
    disk.fail("write")
    wait_replica(cluster, cluster.alpha, "failed")
    load.wait_progress()
    assert load.disconnects == 0 and not load.errors
    status = cluster.alpha.status()
    assert status["state"] == "failed" and status["role"] == "active"
    assert status["replica"]["media"]["write_errors"] >= 1
    assert status["replica"]["media"]["ranges"][0]["action"] == "replica-left-out"
    event = cluster.wait_event(cluster.alpha, "local-disk-failed")[0]
    assert "create r0 --replace" in event["remedy"]

    refused = cluster.alpha.ctl("create", "r0", "--replace", "--yes", check=False)
    assert refused.code == 1 and "mirrorctl switch r0 --to beta" in refused.err
    cluster.alpha.ctl("switch", "r0", "--to", "beta", "--disconnect-clients")
    load.wait_progress()
    assert cluster.beta.status()["role"] == "active"
    # The new disk must not be filled as if it were the old one.
    cluster.beta.ctl("disconnect", "r0")
    disk.heal()
    plan = cluster.alpha.ctl("create", "r0", "--replace", "--dry-run")
    assert "overwrite" in plan.out and "beta" in plan.out
    # A resync to it may have begun meanwhile: what it holds is worth nothing either way.
    assert cluster.alpha.status()["replica"]["state"] in ("failed", "inconsistent")
    cluster.alpha.ctl("create", "r0", "--replace", "--yes")
    assert cluster.alpha.events("replica-replaced")
    assert cluster.alpha.status()["replica"]["state"] == "new"
    cluster.beta.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.beta)
    assert "compared 64 MiB" in cluster.beta.events("resync-done")[-1]["text"]
    finish(cluster, load, cluster.beta)


@pytest.mark.door
def test_a_write_error_on_the_standby_fails_its_replica_and_not_the_application(
        make_cluster, fuse_backing, make_load):
    cluster = make_cluster()
    disk = fuse_backing(cluster, cluster.beta)
    start(cluster)
    load = make_load([cluster.alpha.socket()], count=4096).start()
    load.wait_progress()
    disk.fail("write")
    cluster.wait_event(cluster.alpha, "mirror-break")
    event = cluster.wait_event(cluster.beta, "local-disk-failed")[0]
    assert "beta" in event["text"]
    load.wait_progress()
    assert cluster.alpha.state() in ("broken", "resyncing")
    media = cluster.beta.status()["replica"]["media"]
    assert media["write_errors"] >= 1
    assert media["ranges"][0]["action"] == "peer-told"
    disk.heal()
    cluster.wait_in_sync(cluster.alpha)
    load.assert_undisturbed()
    finish(cluster, load, cluster.alpha)


def test_a_replica_that_works_is_not_replaced_and_none_without_a_source(cluster):
    refused = cluster.beta.ctl("create", "r0", "--replace", "--yes", check=False)
    assert refused.code == 1 and "nothing to replace" in refused.err
    cluster.beta.stop()
    cluster.beta.meta().write_bytes(bytes(65536))
    cluster.alpha.kill_everything()
    cluster.beta.start()
    assert cluster.beta.state() == "failed"
    refused = cluster.beta.ctl("create", "r0", "--replace", "--yes", check=False)
    assert refused.code in (1, 3) and "alpha can't be reached" in refused.err
    cluster.resume(cluster.alpha, peer_knows=False)
    cluster.beta.ctl("create", "r0", "--replace", "--yes")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.parametrize("option", ["--overwrite-peer", "--local-only"])
def test_replace_stands_alone(cluster, option):
    refused = cluster.beta.ctl("create", "r0", "--replace", option, "--yes", check=False)
    assert refused.code in (1, 2) and "--replace" in refused.err
    assert environment.MIRRORD.exists()


GAPS = [(2 * MIB + 8192, 4096), (4 * MIB - 4096, 8192)]


def start_with_gaps(make_cluster, fuse_backing):
    """What alpha wrote while beta was away has sectors by then that alpha can't read any more."""
    cluster = make_cluster({"r0": {"size": "16MiB"}})
    disk = fuse_backing(cluster, cluster.alpha, kind=SoreDisk, size=16 * MIB)
    start(cluster)
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    for number in range(16):
        handle.pwrite(bytes([number + 1]) * MIB, number * MIB)
    handle.flush()
    cluster.beta.stop()
    cluster.wait_state(cluster.alpha, "broken")
    for number in range(1, 6):
        handle.pwrite(bytes([number + 101]) * MIB, number * MIB)
    handle.flush()
    disk.make_bad((GAPS[0][0] + 1024, 512), (4 * MIB - 512, 1024))
    cluster.beta.start()
    cluster.wait_event(cluster.alpha, "resync-incomplete")
    return cluster, disk, handle


def differing_ranges(one, other):
    """By blocks of 4 KiB, neighbours as one."""
    left, right = one.read_bytes(), other.read_bytes()
    assert len(left) == len(right)
    ranges = []
    for at in range(0, len(left), 4096):
        if left[at:at + 4096] != right[at:at + 4096]:
            if ranges and sum(ranges[-1]) == at:
                ranges[-1] = (ranges[-1][0], ranges[-1][1] + 4096)
            else:
                ranges.append((at, 4096))
    return ranges


@pytest.mark.door
def test_what_the_active_cannot_read_for_the_standby_is_named_and_a_write_heals_it(
        make_cluster, fuse_backing):
    cluster, disk, handle = start_with_gaps(make_cluster, fuse_backing)
    status = cluster.alpha.status()
    assert status["state"] == "broken", status["why"]
    peer = status["peers"][0]
    assert peer["replica_state"] == "inconsistent" and peer["link"] == "connected"
    assert peer["behind_bytes"] == peer["incomplete"]["bytes"] == 12288
    assert [(found["offset_bytes"], found["length_bytes"])
            for found in peer["incomplete"]["ranges"]] == GAPS
    assert "Input/output error" in peer["incomplete"]["cause"]
    assert status["replica"]["media"]["ranges"][0]["action"] == "not-sent"
    event = cluster.alpha.events("resync-incomplete")[0]
    for offset, _ in GAPS:
        assert f"offset {offset}" in event["text"] and f"offset {offset}" in status["why"]
    text = cluster.alpha.ctl("status", "r0", check=False)
    assert text.code == 1 and "rewrite these ranges" in text.out, str(text)

    # Tried again, in vain: said at once, and nothing is told or sent twice.
    waited = cluster.alpha.ctl("resync", "r0", "--wait", check=False)
    assert waited.code == 1, str(waited)
    assert len(cluster.alpha.events("resync-incomplete")) == 1
    assert len(cluster.alpha.events("resync-started")) == 2  # the first of all, and this one

    # The standby knows what it lacks, and for what price it would be promoted.
    cluster.wait_event(cluster.beta, "resync-incomplete")
    assert cluster.beta.state() == "broken"
    assert "lacks 12 KiB" in cluster.beta.status()["why"]

    # The application: an error there, and a mirror everywhere else.
    with pytest.raises(nbd.Error):
        handle.pread(4096, GAPS[0][0])
    assert handle.pread(MIB, 5 * MIB) == bytes([106]) * MIB
    handle.pwrite(b"live" * 1024, 9 * MIB)
    handle.flush()
    assert differing_ranges(disk.image, cluster.backing(cluster.beta)) == GAPS

    handle.pwrite(b"anew" * 1024, GAPS[0][0])
    assert cluster.alpha.status()["peers"][0]["behind_bytes"] == 8192
    handle.pwrite(b"anew" * 2048, GAPS[1][0])
    cluster.wait_in_sync(cluster.alpha)
    assert cluster.beta.status()["replica"]["state"] == "up-to-date"
    assert cluster.alpha.status()["peers"][0]["incomplete"] is None
    handle.flush()
    handle.shutdown()
    disk.forget_cache()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_a_standby_with_gaps_is_promoted_by_force_only_and_the_loss_is_named(
        make_cluster, fuse_backing):
    cluster, disk, handle = start_with_gaps(make_cluster, fuse_backing)
    cluster.wait_event(cluster.beta, "resync-incomplete")
    handle.pwrite(b"live" * 1024, 9 * MIB)
    handle.flush()
    cluster.alpha.kill_everything()
    refused = cluster.beta.ctl("promote", "r0", check=False)
    assert refused.code == 1 and "lacks 12 KiB that alpha could not read" in refused.err
    cluster.beta.ctl("promote", "r0", "--force", "--yes")
    loss = cluster.beta.events("forced-promotion")[0]["text"]
    assert "up to 12 KiB are old or missing on beta" in loss, loss
    standby = nbd.NBD()
    standby.connect_unix(str(cluster.beta.socket()))
    assert standby.pread(4096, 9 * MIB) == b"live" * 1024
    assert standby.pread(MIB, 5 * MIB) == bytes([106]) * MIB
    standby.shutdown()
    assert differing_ranges(disk.image, cluster.backing(cluster.beta)) == GAPS


def test_a_disk_that_reads_again_is_found_by_resync(make_cluster, fuse_backing):
    cluster, disk, handle = start_with_gaps(make_cluster, fuse_backing)
    disk.heal()
    cluster.alpha.ctl("resync", "r0", "--wait")
    assert cluster.alpha.state() == "in-sync"
    handle.shutdown()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
