# SPDX-License-Identifier: BSD-3-Clause
"""Machines, disks and files that were put back, swapped, emptied or changed behind mirrord's back."""

import os
import shutil

import nbd
import pytest

MIB = 1024 * 1024
NEW = b"today" * 1024


def write(node, data, offset=0, volume="r0"):
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket(volume)))
    handle.pwrite(data, offset)
    handle.flush()
    handle.shutdown()


def read(node, length, offset=0):
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket()))
    data = handle.pread(length, offset)
    handle.shutdown()
    return bytes(data)


class Image:
    """What a snapshot of a node's machine holds, while everything runs on."""

    def __init__(self, cluster, node, name="image"):
        self.cluster, self.node = cluster, node
        self.folder = cluster.directory / f"{name}-{node.name}"
        self.folder.mkdir()
        shutil.copytree(node.state_dir / "r0", self.folder / "r0")
        shutil.copy(cluster.backing(node), self.folder / "r0.img")

    def put_back(self, what=("metadata", "backing")):
        """Of a node on which nothing runs."""
        if "metadata" in what:
            shutil.rmtree(self.node.state_dir / "r0")
            shutil.copytree(self.folder / "r0", self.node.state_dir / "r0")
        if "backing" in what:
            with open(self.cluster.backing(self.node), "r+b") as backing:
                backing.write((self.folder / "r0.img").read_bytes())


def assert_all_compared(cluster, active):
    started = active.events("resync-started", "r0")[-1]
    assert "64 MiB to compare" in started["text"], started


@pytest.mark.door
@pytest.mark.parametrize("session_between", [False, True])
@pytest.mark.parametrize("what", [("metadata", "backing"), ("metadata",)])
def test_an_active_that_was_put_back_is_not_promoted_and_gets_what_it_lacks(
        cluster, what, session_between):
    image = Image(cluster, cluster.alpha)
    if session_between:
        cluster.beta.stop()
        cluster.beta.start()
        cluster.wait_in_sync(cluster.alpha)
    write(cluster.alpha, NEW)
    cluster.alpha.kill_everything()
    image.put_back(what)
    cluster.alpha.start()
    cluster.wait_event(cluster.alpha, "demoted")

    refused = cluster.alpha.ctl("promote", "r0", check=False)
    assert refused.code != 0 and "was restored to an older state" in refused.err, refused
    assert "on beta: mirrorctl promote r0" in refused.err, refused
    assert not cluster.alpha.engine_pid()

    cluster.beta.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.beta)
    assert_all_compared(cluster, cluster.beta)
    assert read(cluster.beta, len(NEW)) == NEW
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
@pytest.mark.parametrize("boot", ["plain", "active_at_boot"])
def test_an_active_that_was_put_back_does_not_go_on_by_itself(make_cluster, boot):
    keys = {"active_at_boot": "alpha"} if boot == "active_at_boot" else {}
    cluster = make_cluster({"r0": keys}).start_active()
    image = Image(cluster, cluster.alpha)
    write(cluster.alpha, NEW)
    cluster.alpha.kill_everything()
    image.put_back()
    if boot == "active_at_boot":
        for path in cluster.alpha.run_dir.iterdir():  # as after a reboot: RUN_DIR is a tmpfs
            path.unlink()
    cluster.alpha.start()
    if boot == "active_at_boot":
        cluster.wait_event(cluster.alpha, "boot-promotion-waits")
        told = cluster.alpha.events("boot-promotion-waits", "r0")[-1]
        assert "was restored to an older state" in told["cause"], told
    cluster.wait(lambda: cluster.alpha.status()["role"] == "standby", "alpha to be a standby")
    assert not cluster.alpha.engine_pid()
    cluster.beta.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.beta)
    assert read(cluster.beta, len(NEW)) == NEW
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_promotion_by_force_of_an_older_copy_overwrites_nothing_unsaved(cluster):
    image = Image(cluster, cluster.alpha)
    write(cluster.alpha, NEW)
    cluster.alpha.kill_everything()
    image.put_back()
    cluster.alpha.start()
    cluster.wait_event(cluster.alpha, "demoted")
    told = cluster.alpha.ctl("promote", "r0", "--force", "--dry-run")
    assert "everything written since" in told.out, told
    cluster.alpha.ctl("promote", "r0", "--force")
    cluster.wait_state(cluster.alpha, "diverged")
    with open(cluster.backing(cluster.beta), "rb") as backing:
        assert backing.read(len(NEW)) == NEW
    # Keeping the older one is possible, and saves the newer one first.
    cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes")
    cluster.wait_in_sync(cluster.alpha)
    assert read(cluster.alpha, len(NEW)) == bytes(len(NEW))
    undo = cluster.beta.ctl("undo", "r0", "--list", "--json").json
    assert undo["undo"], undo
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
@pytest.mark.parametrize("what", [("metadata", "backing"), ("metadata",), ("backing",)])
def test_a_standby_that_was_put_back_within_the_session_is_compared_as_a_whole(cluster, what):
    cluster.beta.stop()
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    image = Image(cluster, cluster.beta)
    write(cluster.alpha, NEW)
    cluster.alpha.ctl("demote", "r0")  # no map names the write any more
    cluster.beta.stop()
    image.put_back(what)
    cluster.beta.start()
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    assert_all_compared(cluster, cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    with open(cluster.backing(cluster.beta), "rb") as backing:
        assert backing.read(len(NEW)) == NEW


def change_in_place(path):
    with open(path, "r+b") as backing:
        backing.write(b"somebody else" * 100)


def put_an_empty_file_there(path):
    path.unlink()
    path.touch()
    os.truncate(path, 64 * MIB)


def put_a_copy_there(path):
    copy = path.with_suffix(".copy")
    shutil.copy2(path, copy)
    copy.rename(path)


@pytest.mark.door
@pytest.mark.parametrize("change", [change_in_place, put_an_empty_file_there, put_a_copy_there])
def test_a_standbys_backing_that_is_not_as_it_was_left_is_compared_as_a_whole(cluster, change):
    write(cluster.alpha, NEW, 8 * MIB)
    cluster.alpha.ctl("demote", "r0")
    cluster.beta.stop()
    change(cluster.backing(cluster.beta))
    cluster.beta.start()
    cluster.wait_event(cluster.beta, "backing-changed")
    assert "not as it was left" in str(cluster.beta.ctl("check", check=False))
    refused = cluster.beta.ctl("promote", "r0", check=False)
    assert refused.code != 0 and "replaced or changed while it was closed" in refused.err
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    assert_all_compared(cluster, cluster.alpha)
    cluster.alpha.ctl("switch", "r0", "--to", "beta")
    assert read(cluster.beta, len(NEW), 8 * MIB) == NEW
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.parametrize("change", [change_in_place, put_an_empty_file_there])
def test_the_backing_of_a_former_active_is_no_source_when_it_is_not_as_it_was_left(cluster, change):
    write(cluster.alpha, NEW, 8 * MIB)
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.stop()
    cluster.beta.stop()
    change(cluster.backing(cluster.alpha))
    cluster.alpha.start()
    refused = cluster.alpha.ctl("promote", "r0", check=False)  # with the token, and nobody to ask
    assert refused.code != 0 and "replaced or changed while it was closed" in refused.err
    cluster.beta.start()
    cluster.beta.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.beta)
    assert_all_compared(cluster, cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_the_backing_of_another_volume_is_refused(make_cluster):
    cluster = make_cluster({"r0": {}, "r1": {}}).start()
    for volume, data in (("r0", b"red" * 100), ("r1", b"blue" * 100)):
        cluster.create(volume)
        cluster.alpha.ctl("promote", volume)
        cluster.wait_in_sync(cluster.alpha, volume)
        write(cluster.alpha, data, volume=volume)
    cluster.beta.stop()
    first, second = (cluster.backing(cluster.beta, volume) for volume in ("r0", "r1"))
    other = first.with_suffix(".other")
    first.rename(other), second.rename(first), other.rename(second)
    cluster.beta.start()
    for volume, owner in (("r0", "r1"), ("r1", "r0")):
        status = cluster.beta.status(volume)
        assert f"is the backing of volume {owner}" in status["why"], status
    cluster.beta.stop()
    first.rename(other), second.rename(first), other.rename(second)
    cluster.beta.start()
    for volume in ("r0", "r1"):
        cluster.wait_in_sync(cluster.alpha, volume)
        cluster.alpha.ctl("demote", volume)
        cluster.assert_replicas_equal(volume)


def test_a_device_that_shows_another_disk_is_not_believed(make_cluster):
    cluster = make_cluster()
    cluster.use_loop_devices(64 * MIB)
    cluster.start()
    cluster.alpha.ctl("create", "r0", "--overwrite-peer")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    write(cluster.alpha, NEW)
    cluster.alpha.ctl("demote", "r0")
    cluster.beta.stop()
    other = cluster.directory / "other.img"
    other.touch()
    os.truncate(other, 64 * MIB)
    cluster.volumes["r0"]["backing.beta"] = str(cluster.make_loop_device(other))
    cluster.write_config()
    cluster.alpha.stop()
    cluster.start()
    cluster.wait_event(cluster.beta, "backing-changed")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    assert_all_compared(cluster, cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_a_backing_that_is_renamed_while_it_is_open_is_told(cluster, name):
    node = getattr(cluster, name)
    path = cluster.backing(node)
    away = path.with_suffix(".away")
    path.rename(away)
    cluster.wait_event(node, "backing-moved")
    assert str(path) in str(node.ctl("check", check=False))
    away.rename(path)
    cluster.wait_event(node, "backing-returned")
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_nothing_is_doubted_after_restarts_switches_and_crashes(cluster):
    write(cluster.alpha, NEW)
    for node in cluster.nodes:
        node.stop()
        node.start()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.kill_engine()
    cluster.wait(cluster.alpha.engine_pid, "mirrord to start the engine again")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("switch", "r0", "--to", "beta")
    cluster.wait_in_sync(cluster.beta)
    cluster.alpha.kill_daemon()
    cluster.alpha.start()
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    for node in cluster.nodes:
        node.stop()
        node.start()
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    for node in cluster.nodes:
        assert not node.events("backing-changed"), node.events("backing-changed")
        assert not node.events("backing-moved")
        for event in node.events("resync-started", "r0"):
            assert "64 MiB to compare" not in event["text"], event
    cluster.assert_replicas_equal()
