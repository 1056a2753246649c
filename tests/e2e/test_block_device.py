# SPDX-License-Identifier: BSD-3-Clause
"""Block devices as backings: the same disk, the same rules."""

import pytest

from lib import tools

MIB = 1024 * 1024


@pytest.fixture
def devices(make_cluster):
    """A cluster whose replicas are loop devices of 64 MiB, not yet created."""
    tools.require_root("sets up loop devices")
    tools.require_tool("losetup")
    cluster = make_cluster()
    cluster.use_loop_devices(64 * MIB)
    return cluster.start()


@pytest.mark.door
def test_a_mirror_on_devices_switches_and_heals(devices, make_load):
    devices.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
    devices.alpha.ctl("promote", "r0")
    devices.wait_in_sync(devices.alpha)
    load = make_load([node.socket() for node in devices.nodes], count=4096).start()
    load.wait_progress(200)
    devices.beta.kill_daemon()
    load.wait_progress(200)
    devices.beta.start()
    devices.wait_in_sync(devices.alpha)
    load.wait_progress(100)
    devices.alpha.ctl("switch", "r0", "--disconnect-clients")
    load.wait_progress(100)
    load.stop()
    assert not load.errors
    devices.wait_in_sync(devices.beta)
    devices.beta.ctl("demote", "r0")
    devices.assert_replicas_equal()
    for node in devices.nodes:
        load.verify_file(devices.backing(node))


def test_the_data_of_the_peers_device_is_not_overwritten_unasked(devices):
    refused = devices.alpha.ctl("create", "r0", check=False)
    assert refused.code == 1
    assert str(devices.backing(devices.beta)) in refused.err
    assert "--overwrite-peer" in refused.err


@pytest.mark.door
def test_trim_and_zero_read_as_zeroes_on_both_devices(devices):
    devices.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
    devices.alpha.ctl("promote", "r0")
    devices.wait_in_sync(devices.alpha)
    tools.qemu_io(devices.alpha.uri(), "write -P 0x5a 0 8M", "discard 1000k 1111k", "write -z 3M 513k",
                  "write -z -u 5000512 300k", "flush")
    devices.alpha.ctl("demote", "r0")
    devices.assert_replicas_equal()
    data = open(devices.backing(devices.alpha), "rb").read(8 * MIB)
    assert data[1000 * 1024:2111 * 1024] == bytes(1111 * 1024)
    assert data[3 * MIB:3 * MIB + 513 * 1024] == bytes(513 * 1024)
    assert data[5000512:5000512 + 300 * 1024] == bytes(300 * 1024)
    assert data[:1000 * 1024] == b"\x5a" * (1000 * 1024)
