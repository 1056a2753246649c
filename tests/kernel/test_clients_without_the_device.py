# SPDX-License-Identifier: BSD-3-Clause
"""A virtual machine's disk may use the volume's socket directly, with QEMU's own reconnecting."""

import pytest

from guests import loads
from guests.machine import Guest
from guests.pair import free_udp_ports
from lib import environment
from lib.cluster import Cluster
from lib.waiting import wait_for

pytestmark = pytest.mark.long
SOCKET = "/run/mirrordisk/r0.sock"
QEMU_IO = ("stdbuf -oL qemu-io --image-opts driver=nbd,server.type=unix,"
           f"server.path={SOCKET},reconnect-delay=60")
BLOCKS = 40


def answered(command):
    return command.out.count(b"wrote 4096/4096 bytes")


def test_qemu_reconnects_to_the_volumes_socket(mirror):
    mirror.set_up(size="64MiB")
    alpha = mirror.alpha
    mirror.ctl(alpha, "detach r0")
    disk = alpha.begin(f"{QEMU_IO} 2>&1")
    for block in range(BLOCKS):
        if block in (10, 25):
            mirror.kill_engine(alpha)
        disk.send(f"write -f -P {block + 1} {block * 4096} 4096\n".encode())
        wait_for(lambda: answered(disk) > block,  # pylint: disable=cell-var-from-loop
                 f"block {block} to be written", timeout=90, report=lambda: str(disk.outcome()))
    disk.send(b"quit\n")
    assert disk.wait(60).code == 0
    reads = " ".join(f"-c 'read -P {block + 1} {block * 4096} 4096'" for block in range(BLOCKS))
    read = alpha.run(f"{QEMU_IO} {reads}", timeout=120)
    assert "verification failed" not in read.out, read
    mirror.assert_equal()


@pytest.fixture
def cluster(request):
    """alpha active, beta standby, on this machine: what virtual machines run on."""
    if not environment.MIRRORD.exists():
        pytest.skip(f"{environment.MIRRORD} is not built")
    with Cluster({"r0": {"size": "256MiB", "peer_timeout": "10s"}}) as made:
        yield made.start_active()


@pytest.fixture
def virtual_machine(request, cluster):
    """Its disk /dev/vdd is the volume r0 of alpha."""
    disk = (f"driver=nbd,node-name=r0,server.type=unix,server.path={cluster.alpha.socket()},"
            "reconnect-delay=120")
    made = Guest("machine", cluster.directory / "machine", "10.77.0.3", free_udp_ports(2),
                 # A late slot, so that the guest finds its other disks first.
                 options=["-blockdev", disk, "-device", "virtio-blk-pci,drive=r0,addr=0x1d"])
    try:
        yield made.start()
        assert not made.complaints()
    finally:
        if made.is_running():
            made.power_cut()


def test_a_virtual_machine_does_not_notice_that_engines_die(cluster, virtual_machine):
    loads.install(virtual_machine)
    virtual_machine.run("mkfs.ext4 -q -F /dev/vdd && mount /dev/vdd /mnt", timeout=180)
    load = loads.Load(virtual_machine).start()
    for _ in range(3):
        cluster.alpha.kill_engine()
        load.wait_for_progress(10)
    cluster.beta.kill_everything()
    load.wait_for_progress(10)
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("restart-engine", "r0", "--disconnect-clients")
    load.wait_for_progress(10)
    load.stop()
    load.check(virtual_machine)
    virtual_machine.run("umount /mnt && e2fsck -fn /dev/vdd", timeout=180)
    virtual_machine.power_cut()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
