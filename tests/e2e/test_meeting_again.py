# SPDX-License-Identifier: BSD-3-Clause
"""Nodes that come, go and ask in awkward orders, and replicas that are not what they were."""

import shutil
import threading
import time

import nbd
import pytest

from lib import environment

MIB = 1024 * 1024


def at_once(*calls):
    """Runs them at the same moment; what each returned."""
    results = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(index, call):
        barrier.wait()
        results[index] = call()
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def write(node, data, offset=0):
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket()))
    handle.pwrite(data, offset)
    handle.shutdown()


@pytest.mark.door
def test_a_connection_that_hangs_half_made_does_not_hold_up_a_promotion(make_cluster):
    cluster = make_cluster(proxied=True).start_active()
    cluster.alpha.ctl("demote", "r0")
    for proxy in cluster.proxies.values():
        proxy.silence()
    began = time.monotonic()
    cluster.alpha.ctl("promote", "r0")
    write(cluster.alpha, bytes(4096))
    took = time.monotonic() - began
    # Asking the peer and the engine's first attempt may each take a peer_timeout.
    assert took <= (3 * 2 + 5) * environment.slowness(), took
    for proxy in cluster.proxies.values():
        proxy.open()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_both_nodes_disconnect_and_connect_at_once(cluster, make_load):
    load = make_load([cluster.alpha.socket()], count=2048).start()
    for _ in range(5):
        for verb in ("disconnect", "connect"):
            outcomes = at_once(*(lambda node=node: node.ctl(verb, "r0", check=False)
                                 for node in cluster.nodes))
            assert all(outcome.code in (0, 1) for outcome in outcomes), outcomes
        cluster.alpha.ctl("connect", "r0", check=False)
        cluster.wait_in_sync(cluster.alpha)
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_two_promotions_at_once_never_make_two_actives(cluster, make_load):
    load = make_load([node.socket() for node in cluster.nodes], count=1024).start()
    load.stop()
    for _ in range(6):
        active = cluster.active()
        if active:
            cluster.wait_in_sync(active)
            active.ctl("demote", "r0")
        outcomes = at_once(*(lambda node=node: node.ctl("promote", "r0", check=False)
                             for node in cluster.nodes))
        serving = [node for node in cluster.nodes if node.engine_pid()]
        assert len(serving) <= 1, f"{outcomes[0]}\n{outcomes[1]}"
        assert sum(outcome.code == 0 for outcome in outcomes) == len(serving)
        if not serving:
            cluster.beta.ctl("promote", "r0")
    active = cluster.active()
    cluster.wait_in_sync(active)
    active.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


@pytest.mark.door
@pytest.mark.parametrize("died_first, back_first", [("alpha", "alpha"), ("alpha", "beta"),
                                                    ("beta", "alpha"), ("beta", "beta")])
def test_both_nodes_die_and_return_in_every_order(cluster, make_load, died_first, back_first):
    load = make_load([cluster.alpha.socket()], follow=True, count=4096).start()
    load.wait_progress()
    nodes = sorted(cluster.nodes, key=lambda node: node.name != died_first)
    nodes[0].kill_everything()
    if died_first == "beta":
        load.wait_progress()
    nodes[1].kill_everything()
    for node in sorted(cluster.nodes, key=lambda node: node.name != back_first):
        node.start()
    cluster.wait(cluster.alpha.engine_pid, "alpha to go on by itself")
    cluster.wait_in_sync(cluster.alpha)
    load.wait_progress()
    load.stop()
    assert not load.errors
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


@pytest.mark.door
@pytest.mark.parametrize("idle", [True, False])
def test_an_heir_that_writes_nothing_is_no_split_brain(cluster, make_load, idle):
    if not idle:
        load = make_load([cluster.alpha.socket()], count=1024).start()
        load.wait_progress()
    cluster.alpha.kill_everything()
    if not idle:
        load.abandon()
    cluster.beta.ctl("promote", "r0", "--force")
    cluster.alpha.start()
    cluster.wait_in_sync(cluster.beta)
    assert cluster.alpha.status()["role"] == "standby"
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    if not idle:
        load.verify_file(cluster.backing(cluster.alpha))


@pytest.mark.door
def test_a_replica_that_was_put_back_to_an_older_copy_is_brought_up_to_date(cluster, make_load):
    """Backing and metadata come from a backup; no map of the active knows what changed since."""
    load = make_load([cluster.alpha.socket()], count=4096).start()
    load.wait_progress(500)
    cluster.beta.stop()
    older = cluster.directory / "older"
    older.mkdir()
    shutil.copytree(cluster.beta.state_dir / "r0", older / "r0")
    shutil.copy(cluster.backing(cluster.beta), older / "r0.img")
    load.wait_progress(500)
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    load.wait_progress(500)
    load.stop()
    # Without intents from before, which would have the regions compared anyway.
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.beta.stop()
    shutil.rmtree(cluster.beta.state_dir / "r0")
    shutil.copytree(older / "r0", cluster.beta.state_dir / "r0")
    shutil.copy(older / "r0.img", cluster.backing(cluster.beta))
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


@pytest.mark.door
def test_a_replica_joins_a_volume_that_is_in_use(make_cluster, make_load):
    cluster = make_cluster().start()
    cluster.alpha.ctl("create", "r0", "--local-only")
    cluster.alpha.ctl("promote", "r0", "--force")
    load = make_load([cluster.alpha.socket()], count=4096).start()
    load.wait_progress(500)
    cluster.beta.ctl("create", "r0")
    cluster.wait_in_sync(cluster.alpha)
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


@pytest.mark.door
def test_a_resync_leaves_holes_where_there_is_nothing(cluster):
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    for offset in range(0, 32 * MIB, MIB):
        handle.pwrite(b"x" * MIB, offset)
    handle.flush()
    cluster.alpha.ctl("disconnect", "r0")
    handle.trim(24 * MIB, 4 * MIB)
    handle.shutdown()
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    used = cluster.backing(cluster.beta).stat().st_blocks * 512
    assert used <= 9 * MIB, f"{used} bytes are allocated for 8 MiB of data"


@pytest.mark.door
def test_what_happens_to_one_volume_does_not_concern_another(make_cluster, make_load):
    cluster = make_cluster({"r0": {}, "r1": {}}).start()
    for volume in ("r0", "r1"):
        cluster.create(volume)
        cluster.alpha.ctl("promote", volume)
        cluster.wait_in_sync(cluster.alpha, volume)
    other = make_load([cluster.alpha.socket("r1")], count=1024).start()
    write(cluster.alpha, b"x" * MIB)
    cluster.alpha.ctl("resync", "r0", "--full", "--wait")
    cluster.alpha.ctl("disconnect", "r0")
    assert cluster.alpha.state("r1") == "in-sync"
    cluster.alpha.ctl("connect", "r0")
    cluster.alpha.kill_engine("r0")
    cluster.wait_in_sync(cluster.alpha, "r0")
    cluster.alpha.ctl("switch", "r0", "--to", "beta")
    cluster.wait_in_sync(cluster.beta, "r0")
    other.wait_progress()
    other.stop()
    other.assert_undisturbed()
    assert not cluster.alpha.events("mirror-break", "r1")
    assert not cluster.alpha.events("resync-started", "r1")
    cluster.beta.ctl("demote", "r0")
    cluster.alpha.ctl("demote", "r1")
    for volume in ("r0", "r1"):
        cluster.assert_replicas_equal(volume)


def test_a_disconnect_of_a_peer_out_of_reach_is_the_reason_that_status_gives(cluster):
    cluster.beta.stop()
    cluster.wait_state(cluster.alpha, "broken")
    cluster.alpha.ctl("disconnect", "r0")
    cluster.alpha.kill_engine()
    cluster.wait(cluster.alpha.engine_pid, "mirrord to start the engine again")
    cluster.beta.start()

    def told():
        why = cluster.alpha.status()["why"]
        assert "disconnected by mirrorctl" in why, why
        return True
    cluster.wait(told, "the reason")
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_mirror_that_breaks_while_the_actives_mirrord_is_away_comes_back_without_it(cluster):
    cluster.alpha.stop()
    cluster.beta.stop()
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    handle.pwrite(b"alone" * 100, 0)
    handle.shutdown()
    cluster.beta.start()
    cluster.wait_in_sync(cluster.beta)
    cluster.alpha.start()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
