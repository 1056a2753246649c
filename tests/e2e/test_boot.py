# SPDX-License-Identifier: BSD-3-Clause
"""Shutdown and boot: clean demotes, and who becomes active by itself, which is nobody by default."""

import pytest

AT_BOOT = {"r0": {"active_at_boot": "alpha"}}


def shut_down(cluster, *nodes):
    """As the units do it: everything is demoted, then mirrord ends; RUN_DIR is a tmpfs."""
    for node in nodes:
        node.ctl("demote", "--all")
    for node in nodes:
        assert node.stop() == 0
        for path in node.run_dir.iterdir():
            path.unlink()


def lose_power(cluster, *nodes):
    for node in nodes:
        node.kill_everything()
        for path in node.run_dir.iterdir():
            path.unlink()


@pytest.mark.door
@pytest.mark.parametrize("first", ["alpha", "beta"])
def test_after_a_clean_shutdown_either_node_can_be_promoted(cluster, make_load, first):
    load = make_load([node.socket() for node in cluster.nodes], count=512).start()
    load.wait_progress()
    load.stop()
    shut_down(cluster, cluster.alpha, cluster.beta)
    cluster.assert_replicas_equal()
    cluster.start()
    for node in cluster.nodes:
        assert node.status()["role"] == "standby"
        assert not node.events("not-resumed")
    node = cluster.alpha if first == "alpha" else cluster.beta
    node.ctl("promote", "r0")
    cluster.wait_in_sync(node)
    load.verify_volume(node.socket())
    node.ctl("demote", "--all")
    cluster.assert_replicas_equal()


def test_nobody_becomes_active_at_boot_by_default(cluster):
    lose_power(cluster, *cluster.nodes)
    cluster.start()
    cluster.wait_event(cluster.alpha, "not-resumed")
    # Long enough for the thread that is not there.
    cluster.wait(lambda: cluster.alpha.peer()["link"] != "down", "the nodes to see each other")
    assert cluster.active() is None
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)


@pytest.mark.door
def test_demote_all_demotes_every_volume_and_says_which_is_left(make_cluster, make_load):
    cluster = make_cluster({"r0": {}, "r1": {}, "r2": {}}).start()
    assert "nothing is active" in cluster.alpha.ctl("demote", "--all").out
    for volume in ("r0", "r1", "r2"):
        cluster.create(volume)
    for volume in ("r0", "r1"):
        cluster.alpha.ctl("promote", volume)
        cluster.wait_in_sync(cluster.alpha, volume)
    plan = cluster.alpha.ctl("demote", "--all", "--dry-run").out
    assert "r0" in plan and "r1" in plan and "r2" not in plan, plan
    load = make_load([cluster.alpha.socket("r0")], count=256).start()
    load.wait_progress()
    outcome = cluster.alpha.ctl("demote", "--all", check=False)
    assert outcome.code == 1, str(outcome)
    assert "r0: " in outcome.err and "standby on alpha: r1" in outcome.err, str(outcome)
    assert cluster.active("r0") is cluster.alpha and cluster.active("r1") is None
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    assert cluster.alpha.ctl("demote", "--all").out.startswith("standby on alpha: r0")
    for volume in ("r0", "r1"):
        cluster.assert_replicas_equal(volume)
    assert cluster.alpha.ctl("demote", check=False).code == 2
    assert cluster.alpha.ctl("demote", "r0", "--all", check=False).code == 2


def test_the_named_node_becomes_active_after_a_boot(make_cluster, make_load):
    cluster = make_cluster(AT_BOOT).start_active()
    load = make_load([node.socket() for node in cluster.nodes], count=512).start()
    load.wait_progress()
    load.stop()
    shut_down(cluster, *cluster.nodes)
    cluster.start()
    cluster.wait(lambda: cluster.active() is cluster.alpha, "alpha to be active by itself")
    cluster.wait_in_sync(cluster.alpha)
    assert "active_at_boot" in cluster.alpha.events("promoted")[-1]["cause"]
    load.verify_volume(cluster.alpha.socket())

    # A clean demote by a person stays, also over a restart of mirrord.
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    assert cluster.alpha.stop() == 0
    cluster.alpha.start()
    cluster.beta.ctl("promote", "r0")
    assert cluster.active() is cluster.beta
    cluster.beta.ctl("demote", "r0")
    assert cluster.alpha.status()["role"] == "standby"
    cluster.assert_replicas_equal()


def test_after_a_power_cut_of_both_the_named_node_waits_for_its_peer(make_cluster):
    cluster = make_cluster(AT_BOOT).start_active()
    lose_power(cluster, *cluster.nodes)
    cluster.alpha.start()
    (waiting,) = cluster.wait_event(cluster.alpha, "boot-promotion-waits")
    assert "beta" in waiting["cause"], waiting
    assert cluster.active() is None
    cluster.beta.start()
    cluster.wait(lambda: cluster.active() is cluster.alpha, "alpha to be active by itself")
    cluster.wait_in_sync(cluster.alpha)
    assert len(cluster.alpha.events("boot-promotion-waits")) == 1
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.seconds(180)
def test_without_its_peer_the_last_active_goes_on_after_a_while(make_cluster):
    cluster = make_cluster({"r0": {"active_at_boot": "alpha", "peer_timeout": "500ms"}})
    cluster.start_active()
    lose_power(cluster, *cluster.nodes)
    cluster.alpha.start()
    cluster.wait(lambda: cluster.active() is cluster.alpha, "alpha to be active by itself", 60)
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_without_its_peer_a_node_that_was_not_active_last_stays_standby(make_cluster):
    cluster = make_cluster({"r0": {"active_at_boot": "alpha", "peer_timeout": "500ms"}})
    cluster.start_active(cluster.beta)
    lose_power(cluster, *cluster.nodes)
    cluster.alpha.start()
    # First that the peer is not there, then what a plain promotion says to that.
    cluster.wait_event(cluster.alpha, "boot-promotion-waits", count=2, timeout=60)
    assert cluster.active() is None
    cluster.beta.start()  # the last active agrees
    cluster.wait(lambda: cluster.active() is cluster.alpha, "alpha to be active by itself", 90)
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_volume_that_the_peer_took_over_stays_there(make_cluster):
    cluster = make_cluster(AT_BOOT).start_active()
    lose_power(cluster, cluster.alpha)
    cluster.beta.ctl("promote", "r0", "--force")
    cluster.alpha.start()
    cluster.wait_event(cluster.alpha, "boot-promotion-ended")
    cluster.wait_in_sync(cluster.beta)
    # Nor does it come back when beta is demoted later on.
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    cluster.alpha.stop()
    cluster.alpha.start()
    cluster.alpha.ctl("check")
    assert cluster.active() is None


def test_the_other_node_never_becomes_active_by_itself(make_cluster):
    cluster = make_cluster(AT_BOOT).start_active(None)
    lose_power(cluster, *cluster.nodes)
    cluster.beta.start()
    cluster.wait(lambda: cluster.beta.status()["state"] == "peer-unknown", "beta to look for alpha")
    cluster.beta.ctl("check", check=False)
    assert cluster.active() is None and not cluster.beta.events("boot-promotion-waits")


def test_a_reload_that_takes_active_at_boot_away_ends_the_waiting_promotion(make_cluster):
    cluster = make_cluster(AT_BOOT).start()
    cluster.create("r0")
    shut_down(cluster, *cluster.nodes)
    alpha, beta = cluster.nodes
    alpha.start()
    cluster.wait_event(alpha, "boot-promotion-waits")
    del cluster.volumes["r0"]["active_at_boot"]
    cluster.write_config()
    alpha.ctl("reload")
    cluster.wait((alpha.run_dir / "r0.boot").exists, "the promotion to be given up")
    beta.start()
    cluster.wait(lambda: alpha.peer()["link"] != "down", "the nodes to see each other")
    assert cluster.active() is None
    alpha.ctl("promote", "r0")
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
