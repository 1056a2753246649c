# SPDX-License-Identifier: BSD-3-Clause
"""What an administrator does to a mirror whose filesystem stays mounted."""

import re

import pytest

from guests import products
from guests.loads import Load


def test_the_engine_is_replaced_under_load(mirror):
    mirror.set_up()
    alpha = mirror.alpha
    mirror.make_filesystem(alpha)
    load = Load(alpha).start()
    for _ in range(3):
        before = mirror.engine_pid(alpha)
        outcome = mirror.ctl(alpha, "restart-engine r0")
        assert mirror.engine_pid(alpha) != before
        print(outcome.out)
        assert re.search(r"[\d.]+ m?s", outcome.out), "the pause is not said"
        load.wait_for_progress(20)
    load.stop()
    load.check(alpha)
    mirror.check_filesystem(alpha)
    mirror.assert_equal()


def test_packages_are_upgraded_while_the_filesystem_is_mounted(mirror, tmp_path):
    if not products.packages():
        pytest.skip("MIRRORDISK_PACKAGES names no packages")
    newer = products.newer_packages(tmp_path)
    mirror.set_up()
    alpha = mirror.alpha
    mirror.make_filesystem(alpha)
    load = Load(alpha).start()
    for node in mirror.nodes:
        before = node.out("dpkg-query -W -f '${Version}' mirrordisk")
        products.put_packages(node, newer)
        node.run(f"dpkg -i {products.WHERE}/*.deb", timeout=180)
        assert node.out("dpkg-query -W -f '${Version}' mirrordisk") != before
        load.wait_for_progress(20)
        mirror.wait_in_sync(alpha)
    alpha.run("mountpoint -q /mnt")
    load.stop()
    load.check(alpha)
    mirror.check_filesystem(alpha)
    mirror.assert_equal()
