# SPDX-License-Identifier: BSD-3-Clause
"""The guests have little memory, and the page cache is full of dirty pages of the volume itself."""

import pytest

pytestmark = pytest.mark.long
FILE_MIB = 400
TURNS = 3


def test_three_times_the_memory_is_written_through_a_filesystem(mirror):
    mirror.set_up(size="640MiB")
    alpha = mirror.alpha
    assert FILE_MIB * TURNS > 3 * alpha.memory
    mirror.make_filesystem(alpha)
    alpha.run("sysctl -qw vm.dirty_ratio=90 vm.dirty_background_ratio=80")
    for _ in range(TURNS):
        alpha.run(f"fio --name=pressure --directory=/mnt --size={FILE_MIB}M --rw=write --bs=256k "
                  "--ioengine=psync --fallocate=none --end_fsync=1 --verify=crc32c "
                  "--do_verify=0 --minimal", timeout=400)
    alpha.run("sysctl -qw vm.dirty_ratio=20 vm.dirty_background_ratio=10 vm.drop_caches=3")
    alpha.run(f"fio --name=pressure --directory=/mnt --size={FILE_MIB}M --rw=write --bs=256k "
              "--ioengine=psync --verify=crc32c --verify_only --verify_fatal=1 --minimal",
              timeout=300)
    mirror.check_filesystem(alpha)
    mirror.assert_equal()
