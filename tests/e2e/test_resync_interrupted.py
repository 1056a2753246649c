# SPDX-License-Identifier: BSD-3-Clause
"""A resync that is interrupted again and again, with writes going on, still ends equal."""

import pytest

from lib import environment
from lib.load import Load

INTERRUPTIONS = 4 if environment.sanitizer() else 12
MIB = 1024 * 1024


def by_disconnect(cluster):
    cluster.alpha.ctl("disconnect", "r0")
    cluster.alpha.ctl("connect", "r0")


def by_killing_the_standby(cluster):
    cluster.beta.kill_daemon()
    cluster.beta.start()


def by_killing_the_engine(cluster):
    cluster.alpha.kill_engine()
    cluster.wait(cluster.alpha.engine_pid, "mirrord to start the engine again")


def by_cutting_the_link(cluster):
    cluster.proxies["beta"].cut()
    cluster.proxies["beta"].slow(8 * MIB)


WAYS = [by_disconnect, by_killing_the_standby, by_killing_the_engine, by_cutting_the_link]


@pytest.fixture
def behind(make_cluster, make_load):
    """A cluster whose beta lacks most of the volume, on a slow link, and the load that goes on."""
    cluster = make_cluster(proxied=True).start_active()
    cluster.alpha.ctl("disconnect", "r0")
    filler = make_load([cluster.alpha.socket()], count=8192, zeroes=0, max_run=64).start()
    filler.wait_progress(600)
    filler.stop()
    cluster.proxies["beta"].slow(8 * MIB)
    load = make_load([cluster.alpha.socket()], count=8192, first=8192, rate=50, follow=True)
    load.start()
    cluster.alpha.ctl("connect", "r0")
    cluster.filler = filler
    return cluster, load


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(240)
def test_interrupted_at_random_points_it_ends_equal(behind, rng):
    cluster, load = behind
    for turn in range(INTERRUPTIONS):
        cluster.wait(lambda: cluster.alpha.state() in ("resyncing", "in-sync"), "a resync")
        goal = rng.random()

        def far_enough():
            resync = cluster.alpha.peer()["resync"]
            return (cluster.alpha.state() == "in-sync"
                    or resync and resync["done_bytes"] >= 0.3 * goal * resync["total_bytes"])
        cluster.wait(far_enough, "the resync to get on")
        rng.choice(WAYS)(cluster) if turn >= len(WAYS) else WAYS[turn](cluster)
    cluster.proxies["beta"].open()
    cluster.wait_in_sync(cluster.alpha)
    load.wait_progress(20)
    load.stop()
    assert not load.errors
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))
    cluster.filler.verify_file(cluster.backing(cluster.beta))


def test_an_interrupted_resync_goes_on_where_it_was(behind):
    cluster, load = behind
    link = cluster.proxies["beta"]
    load.stop()

    def half_done():
        resync = cluster.alpha.peer()["resync"]
        return resync and resync["done_bytes"] * 2 >= resync["total_bytes"] and resync
    resync = cluster.wait(half_done, "half of the resync")
    cluster.alpha.ctl("disconnect", "r0")
    rest = cluster.alpha.peer()["behind_bytes"]
    assert rest <= resync["total_bytes"] - resync["done_bytes"]
    link.open()
    before = link.bytes_forward
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    assert link.bytes_forward - before <= rest * 1.05 + 256 * 1024
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_progress_is_visible(behind):
    cluster, load = behind
    cluster.wait_state(cluster.alpha, "resyncing")
    seen = []

    def moving():
        resync = cluster.alpha.peer()["resync"]
        if resync and resync["done_bytes"] not in seen:
            seen.append(resync["done_bytes"])
            assert resync["done_bytes"] <= resync["total_bytes"]
        return len(seen) >= 3 and resync and resync["bytes_per_second"] > 0 and resync
    resync = cluster.wait(moving, "progress, rate and ETA")
    assert resync["eta_seconds"] is not None
    assert seen == sorted(seen)
    assert cluster.beta.status()["replica"]["state"] == "inconsistent"
    text = cluster.alpha.ctl("status", "r0", check=False)
    assert text.code == 1 and "resyncing" in text.out, str(text)
    cluster.proxies["beta"].open()
    cluster.alpha.ctl("wait", "r0", "--for", "in-sync", "--timeout", "60")
    load.stop()


def test_a_full_resync_finds_what_no_map_knows_of(cluster, make_load, rng):
    load: Load = make_load([cluster.alpha.socket()]).start()
    load.wait_progress(1000)
    load.stop()
    cluster.beta.stop()
    with open(cluster.backing(cluster.beta), "r+b") as image:
        for _ in range(20):
            image.seek(rng.randrange(64 * MIB - 100))
            image.write(rng.randbytes(100))
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("resync", "r0", "--full", "--wait")
    cluster.wait_in_sync(cluster.alpha)
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))
