# SPDX-License-Identifier: BSD-3-Clause
"""The engine is replaced while clients use the volume: nothing is lost, nothing has to be sent again."""

import threading
import time

import pytest

from lib import control, environment

RESTARTS = 2 if environment.sanitizer() else 5


def resyncs(node):
    return len(node.events("resync-started"))


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(300)
def test_an_engine_is_replaced_under_load_and_nothing_is_resynced(cluster, make_load):
    load = make_load([cluster.alpha.socket()], follow=True).start()
    before = resyncs(cluster.alpha)
    for _ in range(RESTARTS):
        load.wait_progress(50)
        old = cluster.alpha.engine_pid()
        answer = cluster.alpha.ctl("restart-engine", "r0", "--disconnect-clients", "--json").json
        assert cluster.alpha.engine_pid() != old
        assert 0 < answer["pause_seconds"] <= answer["seconds"]
        assert {"hold", "end", "start"} <= set(answer["phases"])
        load.wait_progress(50)
        cluster.wait_in_sync(cluster.alpha)
    load.stop()
    load.verify_volume(cluster.alpha.socket())
    cluster.wait_in_sync(cluster.alpha)
    assert resyncs(cluster.alpha) == before, cluster.alpha.events("resync-started")
    assert len(cluster.alpha.events("engine-replaced")) == RESTARTS
    assert not cluster.alpha.events("engine-died")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_clients_that_would_be_cut_off_are_counted_first(cluster, make_load):
    load = make_load([cluster.alpha.socket()], follow=True).start()
    load.wait_progress(20)
    old = cluster.alpha.engine_pid()
    for verb in (("restart-engine", "r0"), ("resize", "r0", "+1MiB")):
        for options in ([], ["--dry-run"]):
            refused = cluster.alpha.ctl(*verb, *options, check=False)
            assert refused.code == 1, (verb, options)
            assert "1 client connection would be disconnected" in refused.err
    assert cluster.alpha.engine_pid() == old
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("restart-engine", "r0", "--dry-run")
    assert cluster.alpha.engine_pid() == old


def test_a_standby_has_no_engine_to_replace(cluster):
    refused = cluster.beta.ctl("restart-engine", "r0", check=False)
    assert refused.code == 1
    assert "is not active on beta" in refused.err


@pytest.mark.door
@pytest.mark.seconds(120)
def test_a_hold_that_nobody_comes_back_for_ends_by_itself(cluster, make_load):
    load = make_load([cluster.alpha.socket()], follow=True).start()
    load.wait_progress(50)
    before = resyncs(cluster.alpha)
    held = control.ask(cluster.alpha.control_socket(), {"request": "hold", "limit_ms": 2000})
    assert held["intent_bytes"] == 0, held
    load.wait_progress(50)  # the requests that waited are answered
    load.stop()
    assert not load.errors
    cluster.wait_in_sync(cluster.alpha)
    assert resyncs(cluster.alpha) == before
    cluster.assert_replicas_equal()


@pytest.mark.door
@pytest.mark.seconds(180)
def test_mirrord_dies_while_the_engine_is_being_replaced(cluster, make_load, rng):
    load = make_load([cluster.alpha.socket()], follow=True).start()
    for _ in range(3):
        load.wait_progress(20)
        asking = threading.Thread(
            target=lambda: cluster.alpha.ctl("restart-engine", "r0", "--disconnect-clients",
                                             check=False))
        asking.start()
        time.sleep(rng.random() * 0.4)
        cluster.alpha.kill_daemon()
        asking.join()
        cluster.alpha.start()
        cluster.wait(cluster.alpha.engine_pid, "an engine")
        load.wait_progress(20, timeout=90)
        cluster.wait_in_sync(cluster.alpha)
    load.stop()
    assert not load.errors
    load.verify_volume(cluster.alpha.socket())
    cluster.assert_replicas_equal()
