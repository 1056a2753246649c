# SPDX-License-Identifier: BSD-3-Clause
"""The standby goes away in every way there is: the application must hardly notice."""

import nbd
import pytest

from lib import environment

PEER_TIMEOUT = 2 * environment.slowness()


def kill(cluster):
    cluster.beta.kill_daemon()


def freeze(cluster):
    cluster.beta.pause()


def stop(cluster):
    assert cluster.beta.stop() == 0


def cut(cluster):
    cluster.proxies["beta"].cut()
    cluster.proxies["alpha"].cut()


def silence(cluster):
    cluster.proxies["beta"].silence()
    cluster.proxies["alpha"].silence()


def bring_back(cluster):
    if not cluster.beta.is_running():
        cluster.beta.start()
    cluster.beta.go_on()
    for proxy in cluster.proxies.values():
        proxy.open()


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.parametrize("lose", [kill, freeze, stop, cut, silence])
def test_the_application_goes_on(make_cluster, make_load, lose):
    cluster = make_cluster(proxied=True).start_active()
    load = make_load([cluster.alpha.socket()]).start()
    for _ in range(2):
        load.wait_progress()
        load.reset_measures()
        lose(cluster)
        cluster.wait_state(cluster.alpha, "broken")
        load.wait_progress()
        assert load.longest_latency <= PEER_TIMEOUT + 1.0
        assert load.longest_pause <= PEER_TIMEOUT + 1.0
        status = cluster.alpha.status()
        assert status["peers"][0]["break_at"]
        assert status["peers"][0]["behind_bytes"] > 0
        assert "beta" in status["why"]
        bring_back(cluster)
        cluster.wait_in_sync(cluster.alpha)
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    load.verify_volume(cluster.alpha.socket())
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))
    assert len(cluster.alpha.events("mirror-break")) == 2


def test_an_idle_volume_notices_too_and_stays_one_lineage(make_cluster):
    cluster = make_cluster(proxied=True).start_active()
    generation = cluster.alpha.status()["generation"]
    silence(cluster)
    cluster.wait_state(cluster.alpha, "broken")
    assert cluster.alpha.status()["generation"] == generation
    bring_back(cluster)
    cluster.wait_in_sync(cluster.alpha)
    assert cluster.alpha.status()["generation"] == generation


@pytest.mark.door
def test_with_stop_writes_wait_and_reads_go_on(make_cluster, make_load):
    cluster = make_cluster({"r0": {"on_peer_loss": "stop"}}).start_active()
    load = make_load([cluster.alpha.socket()], count=1024).start()
    load.wait_progress()
    cluster.beta.kill_daemon()
    cluster.wait_state(cluster.alpha, "broken")
    reader = nbd.NBD()
    reader.connect_unix(str(cluster.alpha.socket()))
    reader.pread(4096, 0)
    before = load.completed
    for _ in range(50):
        reader.pread(65536, 0)
    assert load.completed == before
    reader.shutdown()
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_the_active_nodes_daemon_may_die_without_the_engine(cluster, make_load):
    load = make_load([cluster.alpha.socket()]).start()
    engine = cluster.alpha.engine_pid()
    cluster.alpha.kill_daemon()
    load.wait_progress(1000)
    cluster.alpha.start()
    cluster.wait_in_sync(cluster.alpha)
    assert cluster.alpha.engine_pid() == engine
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    assert not cluster.alpha.events("mirror-break")
