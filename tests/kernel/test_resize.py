# SPDX-License-Identifier: BSD-3-Clause
"""A volume grows under a mounted filesystem: both nodes, the live device, then the filesystem."""

import pytest

from guests.loads import Load

pytestmark = pytest.mark.long
MIB = 1 << 20


def test_a_mounted_volume_grows_under_load(mirror):
    mirror.set_up(size="128MiB")
    alpha = mirror.alpha
    mirror.make_filesystem(alpha)
    load = Load(alpha).start()
    outcome = mirror.ctl(alpha, "resize r0 256MiB")
    print(outcome.out)
    load.wait_for_progress(5)
    assert int(alpha.out("cat /sys/block/nbd0/size")) * 512 == 256 * MIB
    alpha.run("resize2fs /dev/nbd0", timeout=120)
    assert int(alpha.out("df --output=size -B1 /mnt | tail -1")) > 200 * MIB
    # More than there was before, so that the new part is written as well.
    alpha.run("fio --name=fill --directory=/mnt --size=120M --rw=write --bs=256k --ioengine=psync "
              "--end_fsync=1 --verify=crc32c --do_verify=1 --minimal", timeout=300)
    load.wait_for_progress(5)
    load.stop()
    load.check(alpha)
    alpha.run("umount /mnt")
    mirror.wait_in_sync(alpha)
    mirror.ctl(alpha, "switch r0")
    beta = mirror.beta
    assert int(beta.out("cat /sys/block/nbd0/size")) * 512 == 256 * MIB
    beta.run("mount /dev/nbd0 /mnt")
    load.check(beta)
    mirror.check_filesystem(beta)
    mirror.assert_equal()
