# SPDX-License-Identifier: BSD-3-Clause
"""Both nodes were made to go on alone: it is seen on both, and neither pretends otherwise."""

import os
import signal

import pytest


def diverge(cluster, make_load):
    """alpha and beta active one after the other, each without knowing of the other's writes.

    Returns the loads that wrote on each.
    """
    make_load([cluster.alpha.socket()], count=1024).start().stop()
    cluster.alpha.kill_everything()
    cluster.beta.ctl("promote", "r0", "--force")
    on_beta = make_load([cluster.beta.socket()], count=1024, first=1024).start()
    on_beta.wait_progress()
    on_beta.stop()
    cluster.beta.kill_everything()
    cluster.resume(cluster.alpha)
    on_alpha = make_load([cluster.alpha.socket()], count=1024, first=2048).start()
    on_alpha.wait_progress()
    on_alpha.stop()
    return on_alpha, on_beta


@pytest.mark.door
@pytest.mark.sanitizers
def test_a_split_brain_is_seen_on_both_nodes_and_nothing_is_overwritten(cluster, make_load):
    on_alpha, on_beta = diverge(cluster, make_load)
    cluster.beta.start()
    for node in cluster.nodes:
        cluster.wait_state(node, "diverged")
        status = node.status()
        assert "alpha" in status["why"] and "beta" in status["why"]
        assert node.ctl("status", check=False).code == 2
        cluster.wait_event(node, "diverged")
    on_alpha.verify_file(cluster.backing(cluster.alpha))
    on_beta.verify_file(cluster.backing(cluster.beta))

    # Asking for replication again changes nothing and says why.
    for node in cluster.nodes:
        for verb in ("connect", "resync"):
            outcome = node.ctl(verb, "r0", check=False)
            assert outcome.code in (0, 1), str(outcome)
            if outcome.code:
                assert outcome.err.strip(), str(outcome)
    cluster.wait_state(cluster.alpha, "diverged")
    on_alpha.verify_file(cluster.backing(cluster.alpha))
    on_beta.verify_file(cluster.backing(cluster.beta))


def test_a_diverged_standby_is_not_promoted(cluster, make_load):
    diverge(cluster, make_load)
    cluster.beta.start()
    cluster.wait_state(cluster.beta, "diverged")
    outcome = cluster.beta.ctl("promote", "r0", check=False)
    assert outcome.code == 1, str(outcome)
    assert "alpha" in outcome.err, str(outcome)
    assert cluster.active() is cluster.alpha
    refused = cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", check=False)
    assert refused.code == 1 and refused.err.strip(), str(refused)


def test_a_divergence_is_remembered_across_restarts(cluster, make_load):
    diverge(cluster, make_load)
    cluster.beta.start()
    cluster.wait_state(cluster.alpha, "diverged")
    for node in cluster.nodes:
        node.kill_everything()
    for node in cluster.nodes:
        node.start()
    for node in cluster.nodes:
        cluster.wait_state(node, "diverged")


@pytest.mark.door
def test_a_frozen_active_that_wakes_up_cannot_write_on_its_heir(cluster, make_load):
    before = make_load([cluster.alpha.socket()], count=4096).start()
    before.wait_progress()
    engine = cluster.alpha.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    cluster.alpha.pause()
    before.abandon()
    cluster.beta.ctl("promote", "r0", "--force")
    after = make_load([cluster.beta.socket()], count=4096).start()
    after.wait_progress(1000)
    after.stop()
    image = cluster.backing(cluster.beta)
    content = image.read_bytes()
    os.kill(engine, signal.SIGCONT)
    cluster.alpha.go_on()

    # The writes that sat in alpha's socket make it diverge; without any it is only behind.
    def seen():
        status = cluster.alpha.status()
        behind = status["state"] == "broken" and "beta is newer" in status["why"]
        assert behind or status["state"] == "diverged", f"{status['state']}: {status['why']}"
        return True
    cluster.wait(seen, "alpha to see its heir")
    assert image.read_bytes() == content
