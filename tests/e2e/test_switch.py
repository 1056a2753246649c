# SPDX-License-Identifier: BSD-3-Clause
"""Roles change hands under load: nothing is lost and both replicas stay byte-equal."""

import pytest

from lib import environment

TURNS = 8 if environment.sanitizer() else 40


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(300)
def test_many_switches_under_load(cluster, make_load):
    load = make_load([node.socket() for node in cluster.nodes], count=4096).start()
    for _ in range(TURNS):
        source = cluster.active()
        target = cluster.other(source)
        cluster.wait_in_sync(source)
        load.wait_progress(100)
        source.ctl("switch", "r0", "--to", target.name, "--disconnect-clients")
        assert cluster.active() is target
        assert target.status()["role"] == "active"
        assert source.status()["role"] == "standby"
    load.wait_progress(100)
    load.stop()
    assert not load.errors
    assert load.disconnects == TURNS
    load.verify_volume(cluster.active().socket())
    cluster.wait_in_sync(cluster.active())
    cluster.active().ctl("demote", "r0")
    cluster.assert_replicas_equal()
    for node in cluster.nodes:
        load.verify_file(cluster.backing(node))
    # The load has one connection at a time: each is told once in the log, not once a request.
    refusals = sum(line.count("no longer active here") for node in cluster.nodes
                   for line in node.log.read_text(errors="replace").splitlines())
    assert refusals <= TURNS, f"{refusals} refusals logged in {TURNS} switches"


def test_a_switch_asked_for_on_either_node_does_the_same(cluster):
    cluster.beta.ctl("switch", "r0")
    assert cluster.active() is cluster.beta
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("switch", "r0")
    assert cluster.active() is cluster.alpha


@pytest.mark.door
def test_a_switch_does_not_pull_the_volume_from_under_its_clients(cluster, make_load):
    load = make_load([cluster.alpha.socket()], count=1024).start()
    outcome = cluster.alpha.ctl("switch", "r0", check=False)
    assert outcome.code == 1, str(outcome)
    assert "client" in outcome.err and "--disconnect-clients" in outcome.err, str(outcome)
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    assert cluster.active() is cluster.alpha


@pytest.mark.door
def test_a_demoted_volume_can_be_promoted_on_either_node(cluster, make_load):
    load = make_load([node.socket() for node in cluster.nodes], count=1024).start()
    load.stop()
    for node in (cluster.beta, cluster.beta, cluster.alpha, cluster.beta):
        cluster.active().ctl("demote", "r0")
        assert cluster.active() is None
        cluster.assert_replicas_equal()
        node.ctl("promote", "r0")
        cluster.wait_in_sync(node)
        load.verify_volume(node.socket())


def test_a_dry_run_changes_nothing(cluster):
    for arguments in (["switch", "r0"], ["demote", "r0"], ["disconnect", "r0"],
                      ["resync", "r0", "--full"]):
        outcome = cluster.alpha.ctl(*arguments, "--dry-run")
        assert outcome.out.strip(), str(outcome)
        assert cluster.active() is cluster.alpha
        assert cluster.alpha.state() == "in-sync"


def test_a_switch_to_a_node_without_an_engine_is_refused_before_anything_is_demoted(cluster,
                                                                                   make_load):
    cluster.beta.stop()
    cluster.beta.extra_environment |= {"MIRRORDISK_PLUGIN": "/nonexistent/mirror-plugin.so"}
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    load = make_load([cluster.alpha.socket()]).start()
    refused = cluster.alpha.ctl("switch", "r0", "--to", "beta", "--disconnect-clients", check=False)
    assert refused.code == 1 and "install the package mirrordisk again on beta" in refused.err
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    assert not cluster.alpha.events("demoted")
