# SPDX-License-Identifier: BSD-3-Clause
"""The active dies at random moments: every answered write is there afterwards."""

import fcntl
import time

import pytest

from lib import environment

KILLS = 3 if environment.sanitizer() else 10


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(300)
def test_a_killed_engine_is_restarted_and_the_mirror_heals(cluster, make_load, rng):
    load = make_load([cluster.alpha.socket()], follow=True).start()
    for kill in range(KILLS):
        load.wait_progress(20)
        time.sleep(rng.random() * 0.5)
        cluster.alpha.kill_engine()
        load.pause()
        cluster.wait(cluster.alpha.engine_pid, "mirrord to start the engine again")
        cluster.wait_in_sync(cluster.alpha)
        load.verify_volume(cluster.alpha.socket())
        cluster.assert_replicas_equal()
        load.go_on()
        load.wait_progress(1)
        assert len(cluster.alpha.events("engine-died")) == kill + 1
        if kill == 6:  # mirrord waits the most that it waits by now: a new one begins anew
            cluster.alpha.kill_daemon()
            cluster.alpha.start()
    load.stop()
    assert not load.errors
    load.verify_file(cluster.backing(cluster.beta))


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(300)
def test_a_killed_node_is_replaced_by_the_other_and_comes_back(cluster, make_load, rng):
    load = make_load([node.socket() for node in cluster.nodes]).start()
    for _ in range(KILLS):
        lost = cluster.active()
        heir = cluster.other(lost)
        load.wait_progress(20)
        time.sleep(rng.random() * 0.5)
        lost.kill_everything()
        load.pause()
        # Before anything else writes: what the heir holds is what was answered.
        load.verify_file(cluster.backing(heir))
        heir.ctl("promote", "r0", "--force")
        load.verify_volume(heir.socket())
        load.go_on()
        load.wait_progress(50)
        lost.start()
        cluster.wait_in_sync(heir)
        assert lost.status()["role"] == "standby"
        load.pause()
        cluster.assert_replicas_equal()
        load.verify_file(cluster.backing(lost))
        load.go_on()
    load.stop()
    assert not load.errors


@pytest.mark.door
def test_both_nodes_die_and_the_last_active_goes_on_alone(cluster, make_load):
    load = make_load([cluster.alpha.socket()], follow=True).start()
    load.wait_progress()
    cluster.kill_everything()
    load.pause()
    cluster.resume(cluster.alpha)
    load.verify_volume(cluster.alpha.socket())
    load.go_on()
    load.wait_progress()
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    load.stop()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_an_active_that_was_away_goes_on_when_its_peer_says_that_it_did_not_take_over(
        cluster, make_load):
    load = make_load([cluster.alpha.socket()], follow=True).start()
    load.wait_progress()
    cluster.kill_everything()
    cluster.alpha.start()
    waits = cluster.wait_event(cluster.alpha, "resume-waits")[0]
    assert "mirrorctl promote r0" in waits["remedy"], waits
    # Killed again while it waits, it still knows what it waits for.
    cluster.alpha.kill_everything()
    cluster.alpha.start()
    cluster.wait_event(cluster.alpha, "resume-waits", count=2)
    status = cluster.alpha.status()
    assert (status["role"], status["state"]) == ("standby", "peer-unknown"), status
    assert "resumes when beta confirms" in status["why"], status
    assert cluster.alpha.engine_pid() is None
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    load.wait_progress()
    load.stop()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


@pytest.mark.door
def test_an_active_that_was_away_does_not_serve_older_data_than_its_heir(cluster, make_load):
    """The heir was promoted meanwhile, and is away itself when the former active returns."""
    load = make_load([node.socket() for node in cluster.nodes], follow=True).start()
    load.wait_progress()
    cluster.alpha.kill_everything()
    cluster.beta.ctl("promote", "r0", "--force")
    load.wait_progress()
    load.pause()
    cluster.beta.kill_everything()
    load.go_on()
    cluster.alpha.start()
    cluster.wait_event(cluster.alpha, "resume-waits")
    assert cluster.alpha.engine_pid() is None
    cluster.beta.start()
    cluster.wait_in_sync(cluster.beta)
    assert cluster.alpha.status()["role"] == "standby"
    load.wait_progress()
    load.stop()
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.alpha))


def test_a_node_that_cannot_note_that_it_waits_tries_again(cluster):
    cluster.alpha.kill_everything()
    obstacle = cluster.alpha.run_dir / "r0.active.new"
    obstacle.mkdir()  # in the way of a new mark
    cluster.alpha.start()
    cluster.wait_event(cluster.alpha, "engine-start-failed")
    assert cluster.alpha.engine_pid() is None
    obstacle.rmdir()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_demote_ends_the_waiting_for_the_peer(cluster):
    cluster.kill_everything()
    cluster.alpha.start()
    cluster.wait_event(cluster.alpha, "resume-waits")
    cluster.alpha.ctl("demote", "r0")
    cluster.beta.start()
    cluster.wait_state(cluster.beta, "broken")
    assert "resumes when" not in cluster.alpha.status()["why"]
    cluster.beta.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_an_engine_that_takes_its_time_to_die_does_not_keep_its_node_down(cluster):
    """The kernel gives a killed process' locks back when it has ended its I/O, not before."""
    cluster.alpha.kill_everything()
    with open(cluster.backing(cluster.alpha), "rb") as dying:
        fcntl.flock(dying, fcntl.LOCK_EX)
        cluster.alpha.start()
        cluster.wait(lambda: "in use by" in cluster.alpha.log_tail(),
                     "alpha to find its replica locked")
    cluster.wait(cluster.alpha.engine_pid, "alpha to go on")
    cluster.wait_in_sync(cluster.alpha)
