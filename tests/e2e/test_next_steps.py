# SPDX-License-Identifier: BSD-3-Clause
"""`next` leads out: from every broken situation, following it word by word ends in sync, or at a
decision of a person of which the price was told."""

import pytest

from lib import situations
from lib.situations import MIB, write


def walk_out(person):
    cluster = person.cluster
    person.walk()
    print("\n".join(person.story))
    active = cluster.active()
    write(active, b"after" * 1024, 2 * MIB)
    cluster.wait_in_sync(active)
    active.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    return person


@pytest.mark.parametrize("situation", [
    *situations.PLAIN, *(pytest.param(each, marks=pytest.mark.rare) for each in situations.RARE)],
    ids=lambda each: each.__name__)
def test_following_next_leads_out(make_cluster, situation):
    walk_out(situation(make_cluster))


@pytest.mark.parametrize("situation", situations.OF_DISKS, ids=lambda each: each.__name__)
def test_following_next_leads_out_of_a_failed_disk(make_cluster, fuse_backing, situation):
    walk_out(situation(make_cluster, fuse_backing))


def test_an_active_that_is_dead_for_good_is_replaced_by_a_decision_with_its_price(make_cluster):
    person = situations.active_dead_for_good(make_cluster)
    cluster = person.cluster
    seen = person.settle("")
    assert seen[0] == "peer-unknown", seen
    person.follow(seen[2])
    assert person.prices and "every write that alpha accepted alone is lost" in person.prices[0], person.story
    cluster.wait(cluster.beta.engine_pid, "beta to be promoted")
    cluster.when_promoted()
    walk_out(person)
