# SPDX-License-Identifier: BSD-3-Clause
"""Ten times a second through every fault: what status says is true, or as old as a sign of life."""

import pytest

from lib import situations, tools
from lib.truth import EITHER, GONE, Looker, Truth, stay

LONG_ENOUGH = 4.5  # seconds: longer than peer_timeout and a second
WRITE = b"alone" * 1024


def true_of_a_healthy_pair():
    return Truth(hears=True, alone=False, alpha="active", beta="standby")


def writes_alone(cluster, truth, node):
    """The mirror may have to break first, which this write waits for."""
    del cluster
    situations.write(node, WRITE)
    truth.note(alone=True)


def comes_back(cluster, truth, how):
    truth.note(hears=True, alone=frozenset({True, False}))
    how()
    for node in cluster.nodes:
        cluster.wait(lambda node=node: node.state() == "in-sync", f"{node.name} to be in sync")
    truth.note(alone=False)


def standby_machine_dies(cluster, truth):
    cluster.beta.kill_everything()
    truth.note(hears=False, beta=GONE)
    writes_alone(cluster, truth, cluster.alpha)
    stay(LONG_ENOUGH)
    truth.note(beta="standby")
    comes_back(cluster, truth, cluster.beta.start)


def standby_machine_dies_and_nothing_is_written(cluster, truth):
    cluster.beta.kill_everything()
    truth.note(hears=False, beta=GONE)
    stay(LONG_ENOUGH)
    truth.note(beta="standby")
    comes_back(cluster, truth, cluster.beta.start)


def active_machine_dies(cluster, truth):
    cluster.alpha.kill_everything()
    truth.note(hears=False, alpha=GONE)
    stay(LONG_ENOUGH)
    truth.note(beta=EITHER)
    cluster.beta.ctl("promote", "r0", "--force")
    truth.note(beta="active")
    writes_alone(cluster, truth, cluster.beta)
    stay(LONG_ENOUGH)
    truth.note(alpha="standby")
    comes_back(cluster, truth, cluster.alpha.start)


def active_machine_freezes(cluster, truth):
    engine = cluster.alpha.engine_pid()
    cluster.alpha.pause()
    cluster.alpha.pause_engine()
    truth.note(hears=False)
    stay(LONG_ENOUGH)
    truth.note(hears=True)
    comes_back(cluster, truth, lambda: situations.wake(cluster.alpha, engine))


def standby_machine_freezes(cluster, truth):
    cluster.beta.pause()
    truth.note(hears=False)
    writes_alone(cluster, truth, cluster.alpha)
    stay(LONG_ENOUGH)
    comes_back(cluster, truth, cluster.beta.go_on)


def link_is_cut(cluster, truth):
    situations.cut(cluster)
    truth.note(hears=False)
    writes_alone(cluster, truth, cluster.alpha)
    stay(LONG_ENOUGH)
    comes_back(cluster, truth, lambda: situations.heal(cluster))


def link_drops_everything(cluster, truth):
    for proxy in cluster.proxies.values():
        proxy.silence()
    truth.note(hears=False)
    writes_alone(cluster, truth, cluster.alpha)
    stay(LONG_ENOUGH)
    comes_back(cluster, truth, lambda: situations.heal(cluster))


def link_drops_everything_and_nothing_is_written(cluster, truth):
    for proxy in cluster.proxies.values():
        proxy.silence()
    truth.note(hears=False)
    stay(LONG_ENOUGH)
    comes_back(cluster, truth, lambda: situations.heal(cluster))


def both_are_active_apart(cluster, truth):
    situations.cut(cluster)
    truth.note(hears=False)
    writes_alone(cluster, truth, cluster.alpha)
    truth.note(beta=EITHER)
    cluster.beta.ctl("promote", "r0", "--force")
    truth.note(beta="active")
    situations.write(cluster.beta, WRITE, 1 << 20)
    stay(LONG_ENOUGH)
    truth.note(hears=True)
    situations.heal(cluster)
    for node in cluster.nodes:
        cluster.wait_state(node, "diverged")
    stay(LONG_ENOUGH)
    truth.note(beta=EITHER)
    comes_back(cluster, truth, lambda: cluster.alpha.ctl(
        "resolve", "r0", "--keep", "alpha", "--yes", "--disconnect-clients"))


def mirrord_of_the_active_is_away(cluster, truth):
    cluster.alpha.kill_daemon()
    stay(LONG_ENOUGH)
    comes_back(cluster, truth, cluster.alpha.start)


def engine_dies(cluster, truth):
    truth.note(alpha=EITHER, hears=frozenset({True, False}))
    cluster.alpha.kill_engine()
    cluster.wait_in_sync(cluster.alpha)
    truth.note(alpha="active", hears=True)


def roles_change(cluster, truth):
    truth.note(alpha=EITHER, beta=EITHER)
    cluster.alpha.ctl("switch", "r0", "--to", "beta")
    truth.note(alpha="standby", beta="active")
    stay(LONG_ENOUGH)
    truth.note(beta=EITHER)
    cluster.beta.ctl("demote", "r0")
    truth.note(beta="standby")
    stay(LONG_ENOUGH)
    truth.note(alpha=EITHER)
    cluster.alpha.ctl("promote", "r0")
    truth.note(alpha="active")
    stay(LONG_ENOUGH)


def disconnected_by_hand(cluster, truth):
    cluster.alpha.ctl("disconnect", "r0")
    truth.note(hears=False)
    writes_alone(cluster, truth, cluster.alpha)
    stay(LONG_ENOUGH)
    comes_back(cluster, truth, lambda: cluster.alpha.ctl("connect", "r0"))


def power_of_both(cluster, truth):
    cluster.kill_everything()
    truth.note(hears=False, alpha=GONE, beta=GONE)
    stay(1)
    truth.note(hears=True, alpha=EITHER, beta="standby")
    for node in cluster.nodes:
        situations.forget_boot(node)
        node.start()
    stay(1)
    cluster.alpha.ctl("promote", "r0")
    truth.note(alpha="active")
    comes_back(cluster, truth, lambda: None)


def packages_are_updated(cluster, truth):
    for node in (cluster.beta, cluster.alpha):
        if node is cluster.beta:
            truth.note(hears=frozenset({True, False}))
        node.stop()
        node.start()
        cluster.wait_in_sync(node)
    truth.note(alpha=EITHER)
    cluster.alpha.ctl("restart-engine", "r0")
    comes_back(cluster, truth, lambda: None)
    truth.note(alpha="active", hears=True)


FAULTS = [standby_machine_dies, standby_machine_dies_and_nothing_is_written, active_machine_dies,
          active_machine_freezes, standby_machine_freezes, link_is_cut, link_drops_everything,
          link_drops_everything_and_nothing_is_written, both_are_active_apart,
          mirrord_of_the_active_is_away, engine_dies, roles_change, disconnected_by_hand,
          power_of_both, packages_are_updated]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
def test_every_word_is_true_or_as_old_as_a_sign_of_life(make_cluster, fault):
    cluster = make_cluster(proxied=True).start_active()
    truth = true_of_a_healthy_pair()
    with Looker(cluster, truth) as looker:
        stay(0.5)
        fault(cluster, truth)
        stay(0.5)
    assert looker.looks
    cluster.active().ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_every_word_is_true_while_the_standbys_disk_is_full(make_cluster):
    tools.require_root("to make a small filesystem")
    cluster = make_cluster(proxied=True)
    disk = cluster.mount_tmpfs("tight", 12)
    cluster.volumes["r0"]["backing.beta"] = str(disk / "r0.img")
    cluster.write_config()
    cluster.start_active()
    truth = true_of_a_healthy_pair()
    with Looker(cluster, truth):
        stay(0.5)
        truth.note(alone=frozenset({True, False}))
        for number in range(16):
            situations.write(cluster.alpha, bytes([number + 1]) * situations.MIB,
                             number * situations.MIB)
        truth.note(alone=True)
        stay(LONG_ENOUGH)
        comes_back(cluster, truth,
                   lambda: tools.run("mount", "-o", "remount,size=128m", disk))
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
