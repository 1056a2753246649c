# SPDX-License-Identifier: BSD-3-Clause
"""A dry run says what the real run does: the same verdict, the same refusal, the same price. Verbs
are drawn from a seed, and each real run leads to the next situation."""

import collections
import datetime
import random
import re
import time

import nbd
import pytest

from lib import environment, situations
from lib.situations import MIB

STEPS = 7
COMES_SOON = 1.5 * environment.slowness()  # the first attempts of a session after a break
VERBS = [("promote", "r0"), ("promote", "r0", "--force"), ("promote", "r0", "--fenced"),
         ("demote", "r0"), ("demote", "r0", "--disconnect-clients"), ("demote", "--all"),
         ("switch", "r0"), ("switch", "r0", "--to", "alpha"), ("switch", "r0", "--to", "beta"),
         ("connect", "r0"), ("disconnect", "r0"), ("resync", "r0"), ("resync", "r0", "--full"),
         ("verify", "r0"), ("verify", "r0", "--repair"), ("verify", "r0", "--stop"),
         ("resolve", "r0", "--keep", "alpha"), ("resolve", "r0", "--keep", "beta"),
         ("resolve", "r0", "--keep", "alpha", "--no-undo"),
         ("create", "r0"), ("create", "r0", "--local-only"), ("create", "r0", "--overwrite-peer"),
         ("create", "r0", "--replace"), ("resize", "r0", "+1MiB"), ("resize", "r0", "1MiB"),
         ("attach", "r0"), ("detach", "r0"), ("restart-engine", "r0"),
         ("undo", "r0", "--drop"), ("undo", "r0", "--drop", "--id", "9")]
CONFIRMED = {"promote --force", "resolve", "create --overwrite-peer", "create --replace", "undo"}

# What differs from one moment to the next: times, sizes of what runs, and ids.
CHANGING = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\b[0-9a-f]{8}\b|\b\d+(\.\d+)?( (ms|s|min|h))?\b")


Difference = collections.namedtuple("Difference", "key text")


class Verdict:
    """How a run ended, without what changes from one moment to the next."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.code = outcome.code
        answer = outcome.json if outcome.out.startswith("{") else {}
        error = answer.get("error", {})
        self.kind = error.get("kind", "")
        self.message = CHANGING.sub("#", error.get("message", ""))
        self.loss = CHANGING.sub("#", answer.get("loss") or "")

    def key(self):
        # A price beside a refusal is more than the real run tells.
        return (self.code, self.kind, self.message, self.loss if self.code == 0 else "")


def loses(words):
    return any(set(each.split()) <= set(words) for each in CONFIRMED)


def run(node, words, *more):
    yes = ("--yes",) if loses(words) else ()
    return Verdict(node.ctl(*words, "--json", *yes, *more, check=False, confirm=False))


def difference(cluster, node, words, lasting):
    """What the dry run and the real run say differently, if they do. A refusal names what is so at
    this moment, and between the two the world may go on: that is looked at again, since nothing was
    changed by a refusal."""
    for _ in range(4):
        said, done = run(node, words, "--dry-run"), run(node, words)
        if said.key() == done.key():
            return None
        if done.code == 0:
            break
        settle(cluster, lasting)
    return Difference((words, said.key(), done.key()),
                      f"the dry run:\n{said.outcome}\nthe real one:\n{done.outcome}\n"
                      f"{node.log_tail()}")


def differences(make_cluster, situation, has_client, seed):
    """Of one walk from the situation: up to the first, after which the two worlds have parted."""
    rng = random.Random(seed)
    cluster = situation(make_cluster).cluster
    client = nbd.NBD()
    active = cluster.active()
    if has_client:
        if active is None:
            pytest.skip("there is nothing to be a client of")
        client.connect_unix(str(active.socket()))
    lasting = set()
    for _ in range(STEPS):
        settle(cluster, lasting)
        node = rng.choice([node for node in cluster.nodes if node.is_running()])
        if found := difference(cluster, node, rng.choice(VERBS), lasting):
            return found
    return None


def settle(cluster, lasting):
    """Until what runs has ended. A mirror that is broken while both nodes run may be about to get
    in sync; one that was not in a while is added to `lasting`, and not waited for again."""
    def quiet():
        return all(node.state() not in ("starting", "resyncing") for node in cluster.nodes
                   if node.is_running())
    cluster.wait(quiet, "whatever runs to end", timeout=20)
    active = cluster.active()
    if active is None or not all(node.is_running() for node in cluster.nodes):
        return
    status = active.status()
    now = (active.name, status["state"], status["why"])
    if status["state"] == "in-sync" or now in lasting:
        return
    try:
        cluster.wait(lambda: active.state() == "in-sync", "a session", timeout=COMES_SOON)
    except AssertionError:
        lasting.add(now)


SITUATIONS = [situations.active_nowhere, situations.standby_dead, situations.active_dead,
              situations.disconnected, situations.never_created, situations.created_here_alone,
              situations.split_brain_that_keeps_the_other, situations.both_rebooted,
              situations.verify_found_something, situations.backing_of_the_standby_away,
              situations.metadata_lost, situations.promoted_by_force_while_the_other_was_away,
              situations.backing_replaced_by_an_empty_one, situations.another_config_on_the_standby,
              situations.key_wrong, situations.engine_that_can_not_start,
              situations.created_on_each_alone]


@pytest.mark.parametrize("has_client", [False, True], ids=["unused", "in use"])
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda each: each.__name__)
def test_the_real_run_does_what_the_dry_run_says(make_cluster, rng, situation, has_client):
    seed = rng.random()
    found = differences(make_cluster, situation, has_client, seed)
    if not found:
        return
    # A session that began between the two runs is no fault of the dry run, and does so at another
    # moment in another walk: a dry run that is wrong is wrong there as well.
    for _ in range(3):
        again = differences(make_cluster, situation, has_client, seed)
        assert not again or again.key != found.key, found.text


def test_the_price_of_a_forced_promotion_has_the_time_of_the_last_write_or_none(make_cluster):
    cluster = situations.healthy(make_cluster)
    recorded = cluster.beta.meta().stat().st_mtime
    cluster.wait(lambda: time.time() > recorded + 2, "the metadata to be older than the write")
    situations.write(cluster.alpha, b"last!" * 1024, MIB)
    written = time.time()
    cluster.alpha.kill_everything()
    price = cluster.beta.ctl("promote", "r0", "--force", "--dry-run").out
    told = re.search(r"the last write came at (\S+?Z)", price)
    assert told, price
    told_at = datetime.datetime.fromisoformat(told[1]).timestamp()
    assert abs(told_at - written) < 1, (price, written)


def test_a_pipe_is_no_consent_to_a_loss(make_cluster):
    cluster = situations.healthy(make_cluster)
    cluster.alpha.kill_everything()
    refused = cluster.beta.ctl("promote", "r0", "--force", check=False, confirm=False)
    assert refused.code == 1 and "mirrorctl promote r0 --force --yes" in refused.err, refused
    assert "every write that alpha accepted alone is lost" in refused.err, refused
    assert not cluster.beta.engine_pid()
    cluster.beta.ctl("promote", "r0", "--force", "--yes", confirm=False)
    assert cluster.beta.engine_pid()


def test_create_costs_nothing_where_both_sides_are_empty(make_cluster):
    cluster = make_cluster().start()
    assert "nothing to transfer" in cluster.alpha.ctl("create", "r0", "--dry-run").out
    cluster.create()
    cluster.assert_replicas_equal()


def test_a_healthy_volume_needs_no_yes_to_be_told_that_it_has_not_diverged(cluster):
    refused = cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", check=False, confirm=False)
    assert refused.code == 1 and "--yes" not in refused.err, refused
    assert "not diverged" in refused.err, refused


def test_the_price_of_a_resolution_is_told_while_the_losing_node_is_in_use(make_cluster):
    cluster = situations.split_brain_that_keeps_the_other(make_cluster).cluster
    client = nbd.NBD()
    client.connect_unix(str(cluster.beta.socket()))
    shown = cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--dry-run", check=False)
    assert shown.code == 1 and "in which beta differs from alpha" in shown.out, shown
    assert "beta serves r0 to 1 client connection" in shown.err, shown
    real = cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", check=False)
    assert real.code == 1 and real.err == shown.err, (real, shown)
    client.shutdown()
    cluster.alpha.ctl("resolve", "r0", "--keep", "alpha", "--yes", "--disconnect-clients")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
