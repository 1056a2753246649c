# SPDX-License-Identifier: BSD-3-Clause
"""Clocks that are wrong, or jump: nothing is decided by the time of day."""

import threading
import time

import pytest

from lib import clocks
from lib.waiting import wait_for


@pytest.fixture
def swept():
    since = time.time()
    yield
    clocks.sweep(since)


@pytest.fixture
def skewed(swept, make_cluster):  # in this order: the nodes end before it is swept
    """make(alpha=…, beta=…): a cluster whose nodes read files of offsets for their clocks."""
    del swept
    if reason := clocks.why_not():
        pytest.skip(reason)

    def make(**offsets):
        cluster = make_cluster()
        for node in cluster.nodes:
            node.extra_environment = clocks.wrong_as_in(node.directory / "clock")
            set_clock(node, offsets.get(node.name, "+0"))
        return cluster
    return make


def set_clock(node, offset):
    new = node.directory / "clock.new"
    new.write_text(offset + "\n", encoding="ascii")
    new.rename(node.directory / "clock")  # never half written


@pytest.mark.door
@pytest.mark.parametrize("offset", ["-30d", "+2h"])
def test_a_clock_that_is_wrong_changes_no_decision(skewed, make_load, offset):
    cluster = skewed(beta=offset).start_active()
    load = make_load([node.socket() for node in cluster.nodes], count=2048).start()
    cluster.alpha.ctl("switch", "r0", "--disconnect-clients")
    cluster.wait_in_sync(cluster.beta)
    load.wait_progress()
    # The heir's clock is far from that of the node that wrote last, either way.
    cluster.beta.kill_everything()
    load.pause()
    load.verify_file(cluster.backing(cluster.alpha))
    cluster.alpha.ctl("promote", "r0", "--force")
    load.go_on()
    load.wait_progress()
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    load.stop()
    assert not load.errors
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


def test_a_clock_that_is_wrong_is_told_by_check(skewed):
    cluster = skewed(beta="+2h").start_active()
    outcome = cluster.alpha.ctl("check", check=False)
    assert outcome.code == 1, str(outcome)
    assert "clock" in outcome.out + outcome.err, str(outcome)


def test_a_peer_that_answers_slowly_is_not_taken_for_one_with_a_wrong_clock(skewed):
    """Half a second is tolerated, and 1.5 s from question to answer, read at its end, look like more."""
    cluster = skewed(beta="+0.5").start_active()

    def ask_while_silent():
        cluster.beta.pause()
        back = threading.Timer(1.5, cluster.beta.go_on)
        back.start()
        try:
            outcome = cluster.alpha.ctl("check", "--json", check=False)
        finally:
            back.join()
        entry = next(node for node in outcome.json["nodes"] if node["node"] == "beta")
        assert entry["reachable"], str(outcome)
        assert entry["clock_skew_seconds"] > 1.1, str(outcome)  # else nothing is shown
        return outcome, entry

    outcome, entry = wait_for(ask_while_silent, "an answer that takes long")
    assert entry["clock_skew_seconds"] - entry["clock_uncertainty_seconds"] < 1, str(outcome)
    assert not [problem for problem in outcome.json["problems"] if "clock" in problem], str(outcome)


@pytest.mark.door
@pytest.mark.parametrize("offset", ["-1d", "+1d"])
def test_a_clock_that_jumps_breaks_nothing(skewed, make_load, offset):
    cluster = skewed().start_active()
    load = make_load([cluster.alpha.socket()], count=2048).start()
    for node in cluster.nodes:
        set_clock(node, offset)
        load.wait_progress(500)
        assert cluster.alpha.state() == "in-sync"
        set_clock(node, "+0")
        load.wait_progress(500)
    assert not cluster.alpha.events("mirror-break")
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
