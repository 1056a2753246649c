# SPDX-License-Identifier: BSD-3-Clause
"""After a disconnect exactly the blocks that were written meanwhile are sent."""

import nbd
import pytest

from lib import blocks

BLOCKS = 16384  # of 4 KiB: 64 MiB


def write_blocks(socket, rng, numbers):
    handle = nbd.NBD()
    handle.connect_unix(str(socket))
    for number in numbers:
        handle.pwrite(rng.randbytes(blocks.SIZE), number * blocks.SIZE)
    handle.shutdown()


def wait_behind(cluster, expected):
    """Status may be a fraction of a second old."""
    def reached():
        found = cluster.alpha.peer()["behind_bytes"]
        assert found == expected, f"{found} bytes behind, not {expected}"
        return True
    cluster.wait(reached, f"beta to be {expected} bytes behind", timeout=10)


@pytest.mark.door
@pytest.mark.sanitizers
def test_exactly_the_written_blocks_are_sent(make_cluster, make_load, rng):
    cluster = make_cluster(proxied=True).start_active()
    link = cluster.proxies["beta"]
    load = make_load([cluster.alpha.socket()], count=BLOCKS).start()
    load.wait_progress()
    load.stop()
    for count in (1, 100, 1000):
        cluster.alpha.ctl("disconnect", "r0")
        cluster.wait_state(cluster.alpha, "broken")
        assert cluster.alpha.peer()["behind_bytes"] == 0
        # The same block twice, and neighbours, are still so many blocks.
        chosen = rng.sample(range(BLOCKS), count)
        write_blocks(cluster.alpha.socket(), rng, chosen + chosen[:3])
        wait_behind(cluster, count * blocks.SIZE)
        before = link.bytes_forward
        cluster.alpha.ctl("connect", "r0")
        cluster.wait_in_sync(cluster.alpha)
        sent = link.bytes_forward - before
        cluster.assert_replicas_equal()
        # Beyond the data: a header a request and a few control messages.
        overhead = 32 * count + 64 * 1024
        assert count * blocks.SIZE <= sent <= count * blocks.SIZE + overhead, sent
        assert cluster.alpha.peer()["behind_bytes"] == 0


@pytest.mark.door
def test_a_part_of_a_block_counts_as_the_block(cluster):
    cluster.alpha.ctl("disconnect", "r0")
    cluster.wait_state(cluster.alpha, "broken")
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    handle.pwrite(b"x", 5 * blocks.SIZE + 17)
    handle.pwrite(b"yy", 9 * blocks.SIZE - 1)
    handle.zero(3 * blocks.SIZE, 20 * blocks.SIZE)
    handle.trim(blocks.SIZE, 30 * blocks.SIZE)
    handle.shutdown()
    wait_behind(cluster, 7 * blocks.SIZE)
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_nothing_written_means_nothing_sent(make_cluster, make_load):
    cluster = make_cluster(proxied=True).start_active()
    load = make_load([cluster.alpha.socket()], count=BLOCKS).start()
    load.wait_progress(1000)
    load.stop()
    cluster.alpha.ctl("disconnect", "r0")
    before = cluster.proxies["beta"].bytes_forward
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    assert cluster.proxies["beta"].bytes_forward - before < 64 * 1024
    cluster.assert_replicas_equal()


def test_a_disconnect_survives_a_restart_of_the_peer(cluster):
    cluster.alpha.ctl("disconnect", "r0")
    cluster.wait_state(cluster.alpha, "broken")
    cluster.beta.stop()
    cluster.beta.start()
    status = cluster.alpha.status()
    assert status["state"] == "broken"
    assert "connect" in status["why"]
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
