# SPDX-License-Identifier: BSD-3-Clause
"""STATE_DIR on a filesystem that fills up, while the disks with the replicas have room: no replica is
lost for it, no application gets an error, what is said is true, and all heals when there is room."""

import os
import subprocess

import nbd
import pytest

from lib import tools

MIB = 1024 * 1024
GIB = 1024 * MIB
# So large that its changed map, 132 MiB, has no room in the filesystems here, and that the intent and
# the suspect map have many pages, each for 31 GiB.
SIZE = 4096 * GIB
STATE_MIB = 8


@pytest.fixture
def cramped(make_cluster):
    """make(NODE…): a cluster with a large volume; STATE_DIR of these nodes is a filesystem of a few
    MiB."""
    tools.require_root("mounts a small tmpfs")

    def make(*names):
        cluster = make_cluster(volumes={"r0": {"size": "4TiB", "peer_timeout": "2s"}})
        for node in cluster.nodes:
            if node.name in names:
                node.state_dir = cluster.mount_tmpfs(f"state-{node.name}", STATE_MIB)
            cluster.volumes["r0"][f"backing.{node.name}"] = str(node.directory / "r0.img")
        cluster.write_config()
        return cluster
    return make


def fill(node):
    """Somebody's log takes all that is left."""
    with open(node.state_dir / "log-of-somebody", "wb", buffering=0) as log:
        try:
            while True:
                log.write(bytes(4096))
        except OSError:
            pass
    assert os.statvfs(node.state_dir).f_bavail == 0


def make_room(node):
    (node.state_dir / "log-of-somebody").unlink()


class Application:
    """Writes a block each to places far from each other, and knows what it wrote."""

    def __init__(self, node):
        self.written = {}
        self.connect(node)

    def connect(self, node):
        self.handle = nbd.NBD()
        self.handle.connect_unix(str(node.socket()))

    def write(self, places, value):
        for place in places:
            self.handle.pwrite(bytes([value]) * 4096, place)
            self.written[place] = value
        self.handle.flush()

    def read_all(self):
        for place, value in self.written.items():
            assert self.handle.pread(4096, place) == bytes([value]) * 4096, place


FAR_APART = range(0, SIZE, 120 * GIB)


@pytest.mark.door
def test_of_the_active_costs_no_replica_and_no_error(cramped):
    cluster = cramped("alpha").start_active()
    application = Application(cluster.alpha)
    fill(cluster.alpha)
    application.write(FAR_APART, 1)
    status = cluster.alpha.status()
    assert status["state"] == "in-sync", status["why"]
    assert status["replica"]["metadata"]["reserved"]
    warning = " ".join(status["warnings"])
    assert str(cluster.alpha.state_dir) in warning and "free space" in warning
    check = cluster.alpha.ctl("check", check=False)
    assert check.code != 0 and "free space" in check.out + check.err

    # The event has no room, but what the log says of it tells that mirrord has seen it.
    cluster.wait(lambda: "free space" in cluster.alpha.log_tail(400), "mirrord to see it")

    # The peer goes: what it lacks has no room in its own map, and is remembered all the same.
    cluster.beta.kill_everything()
    application.write(range(7 * GIB, SIZE, 500 * GIB), 2)
    cluster.wait(lambda: cluster.alpha.state() == "broken", "the break")
    cluster.alpha.kill_engine()
    cluster.wait(lambda: cluster.alpha.events("engine-restarted") or "runs again on alpha"
                 in cluster.alpha.log_tail(400), "the engine to be there again")
    application.connect(cluster.alpha)
    application.write(range(11 * GIB, SIZE, 700 * GIB), 3)
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)

    make_room(cluster.alpha)
    application.write(FAR_APART, 4)
    cluster.wait(lambda: not any("free space" in line for line in cluster.alpha.status()["warnings"]),
                 "the warning to end")
    cluster.wait_event(cluster.alpha, "state-dir-ok")
    cluster.alpha.ctl("switch", "r0", "--to", "beta", "--disconnect-clients")
    cluster.wait_in_sync(cluster.beta)
    application.connect(cluster.beta)
    application.read_all()


def test_of_the_standby_costs_no_replica_and_no_error(cramped):
    cluster = cramped("beta").start_active()
    application = Application(cluster.alpha)
    fill(cluster.beta)
    application.write(FAR_APART, 1)
    cluster.beta.kill_everything()
    application.write(FAR_APART, 2)
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("switch", "r0", "--to", "beta", "--disconnect-clients")
    cluster.wait_in_sync(cluster.beta)
    application.connect(cluster.beta)
    application.read_all()
    application.write(FAR_APART, 3)


def test_a_volume_is_not_made_without_room_for_its_metadata(cramped):
    cluster = cramped("alpha").start()
    fill(cluster.alpha)
    refused = cluster.alpha.ctl("create", "r0", check=False)
    assert refused.code != 0
    assert "No space left" in refused.err and f"free space in {cluster.alpha.state_dir}" in refused.err
    assert not cluster.alpha.meta().exists()
    make_room(cluster.alpha)
    cluster.alpha.ctl("create", "r0")


def make_sparse(node):
    """The metadata as an older version made them: holes where nothing was written. It wrote both
    superblock slots whole."""
    copy = node.meta().with_suffix(".copy")
    subprocess.run(["cp", "--sparse=always", node.meta(), copy], check=True)
    with open(node.meta(), "rb") as old, open(copy, "r+b") as new:
        new.write(old.read(2 * 8192))
    copy.rename(node.meta())


def test_metadata_of_an_older_version_get_their_space_when_they_are_opened(cramped):
    cluster = cramped("alpha").start_active()
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.stop()
    make_sparse(cluster.alpha)
    before = cluster.alpha.meta().stat().st_blocks
    cluster.alpha.start()
    assert cluster.alpha.meta().stat().st_blocks > before + MIB // 512 // 2
    fill(cluster.alpha)
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    Application(cluster.alpha).write(FAR_APART, 1)


def test_metadata_of_an_older_version_without_any_space_lose_no_replica(cramped):
    cluster = cramped("alpha").start_active()
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.stop()
    make_sparse(cluster.alpha)
    fill(cluster.alpha)
    cluster.alpha.start()
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    status = cluster.alpha.status()
    assert not status["replica"]["metadata"]["reserved"]
    assert any("have no space reserved" in line for line in status["warnings"])
    application = Application(cluster.alpha)
    with pytest.raises(nbd.Error) as failed:
        application.write(FAR_APART, 1)
    assert failed.value.errnum == 28  # ENOSPC, and not the end of the replica
    assert cluster.alpha.status()["replica"]["state"] == "up-to-date"
    make_room(cluster.alpha)
    cluster.wait(lambda: cluster.alpha.status()["replica"]["metadata"]["reserved"],
                 "the metadata to have their space")
    fill(cluster.alpha)
    application.write(FAR_APART, 2)
    assert cluster.alpha.state() == "in-sync"


def test_damaged_sectors_of_the_metadata_are_told(cluster):
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.stop()
    with open(cluster.alpha.meta(), "r+b") as meta:
        meta.seek(64 * 1024)  # the intent map's first sector
        meta.write(b"what somebody else wrote" * 20)
    cluster.alpha.start()
    event = cluster.wait_event(cluster.alpha, "metadata-damaged")[0]
    assert "r0" in event["text"] and "64" in event["text"]
    metadata = cluster.alpha.status()["replica"]["metadata"]
    assert metadata["damaged_sectors"] == 1
    assert metadata["damaged_bytes"] == 64 * MIB
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    assert cluster.alpha.status()["replica"]["metadata"]["damaged_sectors"] == 1
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
