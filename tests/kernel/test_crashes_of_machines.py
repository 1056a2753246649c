# SPDX-License-Identifier: BSD-3-Clause
"""Power, network and reboots: what was durable for the application is there on the other node."""

import pytest

from guests.loads import Load


def fail_over(mirror, victim):
    """The active node loses its power, the other one takes over."""
    survivor = mirror.other(victim)
    victim.power_cut()
    mirror.promote(survivor, "--force --yes")
    survivor.run("mount /dev/nbd0 /mnt", timeout=120)
    return survivor


def test_power_cut_of_the_active_node(mirror):
    mirror.set_up()
    alpha, beta = mirror.nodes
    mirror.make_filesystem(alpha)
    load = Load(alpha).start()
    load.wait_for_progress(30)
    fail_over(mirror, alpha)
    load.seen()
    load.check(beta)
    alpha.start()
    mirror.wait_in_sync(beta)
    load.check(beta)
    mirror.check_filesystem(beta)
    mirror.assert_equal()


@pytest.mark.long
def test_committed_transactions_survive_three_failovers(mirror):
    mirror.set_up()
    mirror.make_filesystem(mirror.alpha)
    load = Load(mirror.alpha, kind="sqlite").start()
    active = mirror.alpha
    for _ in range(3):
        load.wait_for_progress(30)
        dead, active = active, fail_over(mirror, active)
        load.seen()
        load.check(active)
        load.start(active)
        dead.start()
        mirror.wait_in_sync(active)
    load.stop()
    load.check(active)
    mirror.check_filesystem(active)
    mirror.assert_equal()


@pytest.mark.long
def test_writes_go_on_while_the_network_is_cut(mirror):
    mirror.set_up(peer_timeout="3s")
    alpha, beta = mirror.nodes
    mirror.make_filesystem(alpha)
    load = Load(alpha).start()
    beta.link(up=False)
    load.wait_for_progress(100)
    assert mirror.status(alpha)["state"] == "broken"
    assert mirror.ctl(beta, "promote r0", check=False).code != 0
    beta.link(up=True)
    mirror.wait_in_sync(alpha)
    load.stop()
    load.check(alpha)
    mirror.check_filesystem(alpha)
    mirror.assert_equal()


@pytest.mark.long
def test_a_reboot_of_each_node(mirror):
    mirror.set_up()
    alpha, beta = mirror.nodes
    mirror.make_filesystem(alpha)
    load = Load(alpha).start()
    beta.reboot()
    load.wait_for_progress()
    mirror.wait_in_sync(alpha)
    load.stop()
    alpha.run("umount /mnt")
    alpha.reboot()
    assert mirror.status(alpha)["role"] == "standby", "a node becomes active by itself"
    mirror.promote(beta)  # without force: nothing was left behind
    beta.run("mount /dev/nbd0 /mnt")
    load.check(beta)
    mirror.check_filesystem(beta)
    mirror.assert_equal()
