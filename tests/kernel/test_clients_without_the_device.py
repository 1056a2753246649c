# SPDX-License-Identifier: BSD-3-Clause
"""A virtual machine's disk may use the volume's socket directly, with QEMU's own reconnecting."""

from lib.waiting import wait_for

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
