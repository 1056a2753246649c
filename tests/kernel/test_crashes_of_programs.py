# SPDX-License-Identifier: BSD-3-Clause
"""Programs die under a mounted filesystem; who writes to it sees a pause and nothing else."""

import pytest

from guests.extent import ALL
from guests.loads import Load

KILLS = 10 if ALL else 5
SIZE = "384MiB"  # the least that mkfs.xfs accepts is 300 MiB


@pytest.mark.parametrize("kind", ["ext4", pytest.param("xfs", marks=pytest.mark.long)])
def test_the_engine_is_killed_again_and_again_under_a_filesystem(mirror, kind):
    mirror.set_up(**({"size": SIZE} if ALL or kind == "xfs" else {}))
    alpha = mirror.alpha
    mirror.make_filesystem(alpha, kind)
    load = Load(alpha).start()
    for _ in range(KILLS):
        mirror.kill_engine(alpha)
        load.wait_for_progress()
    load.stop()
    print(f"longest pause {load.longest:.2f} s")
    load.check(alpha)
    mirror.check_filesystem(alpha, kind)
    mirror.assert_equal()


@pytest.mark.long
def test_mirrord_dies_and_then_both_at_once(mirror):
    mirror.set_up()
    alpha, beta = mirror.nodes
    mirror.make_filesystem(alpha)
    load = Load(alpha).start()
    for death in ("pkill -9 -x mirrord", "pkill -9 -x 'mirrord|nbdkit'"):
        alpha.run(death)
        load.wait_for_progress(20)
        mirror.wait_in_sync(alpha)
    beta.run("pkill -9 -x mirrord")
    load.wait_for_progress(20)
    mirror.wait_in_sync(alpha)
    load.stop()
    load.check(alpha)
    mirror.check_filesystem(alpha)
    mirror.assert_equal()
