# SPDX-License-Identifier: BSD-3-Clause
"""Who may not become active, and what is said about it."""

import os
import signal

import pytest

MIB = 1024 * 1024


def refuse(node, *words, arguments=()):
    """A promotion that must fail with all the words, and change nothing."""
    before = node.meta().read_bytes() if node.meta().exists() else None
    outcome = node.ctl("promote", "r0", *arguments, check=False)
    assert outcome.code == 1, str(outcome)
    for word in words:
        assert word in outcome.err, f"'{word}' is not in\n{outcome}"
    assert node.engine_pid() is None
    if before is not None:
        assert node.meta().read_bytes() == before
    return outcome


def test_while_the_peer_is_active(cluster):
    refuse(cluster.beta, "alpha", "active", "switch")
    assert cluster.active() is cluster.alpha


def test_force_does_not_make_two_actives_that_know_of_each_other(cluster):
    refuse(cluster.beta, "alpha", "active", arguments=["--force"])
    assert cluster.alpha.state() == "in-sync"


def test_force_does_not_overtake_an_engine_that_lost_its_daemon(cluster):
    cluster.alpha.kill_daemon()
    refuse(cluster.beta, "alpha is active and sends requests", "stop the engine",
           arguments=["--force"])


def test_force_waits_until_an_active_without_a_word_counts_as_dead(cluster):
    engine = cluster.alpha.engine_pid()
    cluster.alpha.kill_daemon()
    os.kill(engine, signal.SIGSTOP)
    cluster.beta.ctl("promote", "r0", "--force")
    assert cluster.beta.status()["role"] == "active"
    os.kill(engine, signal.SIGKILL)


def test_the_one_that_was_not_active_last_needs_the_peer(cluster):
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.stop()
    refuse(cluster.beta, "alpha", "--force")
    outcome = cluster.beta.ctl("promote", "r0", "--force")
    assert "alpha" in outcome.out, "--force names what may be lost"
    assert cluster.active() is cluster.beta


def test_the_one_that_was_active_last_may_go_on_alone(cluster):
    cluster.alpha.ctl("demote", "r0")
    cluster.beta.stop()
    cluster.alpha.ctl("promote", "r0")
    assert cluster.active() is cluster.alpha
    assert cluster.alpha.state() in ("broken", "peer-unknown")


def test_after_a_switch_the_right_moves_along(cluster):
    cluster.alpha.ctl("switch", "r0", "--to", "beta")
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.beta.stop()
    refuse(cluster.alpha, "beta", "--force")
    cluster.alpha.stop()
    cluster.beta.start()
    cluster.beta.ctl("promote", "r0")


def write_behind_betas_back(cluster, make_load):
    """beta stale: alpha went on alone, and is gone."""
    cluster.beta.stop()
    load = make_load([cluster.alpha.socket()], count=1024).start()
    load.wait_progress()
    load.stop()
    return load


def test_a_stale_replica_whose_peer_is_there(cluster, make_load):
    cluster.alpha.ctl("disconnect", "r0")
    load = make_load([cluster.alpha.socket()], count=1024).start()
    load.stop()
    cluster.alpha.ctl("demote", "r0")
    refuse(cluster.beta, "alpha has newer data", "--force")
    cluster.alpha.ctl("promote", "r0")
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.assert_replicas_equal()


def test_a_stale_replica_whose_peer_is_gone(cluster):
    cluster.alpha.ctl("disconnect", "r0")
    cluster.wait_state(cluster.alpha, "broken")
    cluster.alpha.kill_everything()
    refuse(cluster.beta, "stale", "--force")
    cluster.beta.ctl("promote", "r0", "--force")
    assert cluster.active() is cluster.beta


def test_an_inconsistent_replica(make_cluster, make_load):
    cluster = make_cluster(proxied=True).start_active()
    cluster.alpha.ctl("disconnect", "r0")
    load = make_load([cluster.alpha.socket()], count=8192, zeroes=0, max_run=64).start()
    load.wait_progress(500)
    load.stop()
    cluster.proxies["beta"].slow(MIB)
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_state(cluster.alpha, "resyncing")
    cluster.wait(lambda: (cluster.alpha.peer()["resync"] or {}).get("done_bytes"),
                 "the resync to get on")
    cluster.alpha.kill_everything()
    assert cluster.beta.status()["replica"]["state"] == "inconsistent"
    refuse(cluster.beta, "half overwritten", "make alpha reachable", "--force")
    cluster.proxies["beta"].open()
    cluster.resume(cluster.alpha)
    cluster.wait_in_sync(cluster.alpha)
    cluster.assert_replicas_equal()


def test_a_volume_that_was_not_created(make_cluster):
    cluster = make_cluster().start()
    refuse(cluster.alpha, "r0", "create")


def test_a_volume_that_the_config_does_not_know(cluster):
    outcome = cluster.alpha.ctl("promote", "r7", check=False)
    assert outcome.code == 1 and "r7" in outcome.err, str(outcome)


def test_a_backing_that_is_not_there_any_more(cluster):
    cluster.alpha.ctl("demote", "r0")
    cluster.backing(cluster.alpha).unlink()
    refuse(cluster.alpha, str(cluster.backing(cluster.alpha)))
    cluster.beta.ctl("promote", "r0", "--force")
    assert cluster.active() is cluster.beta


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_dry_run_says_the_same_and_changes_nothing(cluster, force):
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.stop()
    meta = cluster.beta.meta().read_bytes()
    outcome = cluster.beta.ctl("promote", "r0", "--dry-run", *force, check=False)
    assert outcome.code == (0 if force else 1), str(outcome)
    assert "alpha" in outcome.out + outcome.err, str(outcome)
    assert cluster.active() is None
    assert cluster.beta.meta().read_bytes() == meta


def test_mirrord_unreachable_is_a_code_of_its_own(cluster):
    cluster.beta.stop()
    outcome = cluster.beta.ctl("status", check=False)
    assert outcome.code == 3, str(outcome)
    assert str(cluster.beta.run_dir) in outcome.err, str(outcome)
