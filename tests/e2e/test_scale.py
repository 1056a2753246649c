# SPDX-License-Identifier: BSD-3-Clause
"""Large volumes: no step takes time, and nothing takes memory, as the volume is large, where it
needn't."""

import time

import pytest

from lib import environment, sizes
from lib.cluster import Cluster

# In proportion to the size it would be 16384 times as much.
MOST_TIMES_LONGER = 20
MIB_A_TIB = 40


def make(size):
    return Cluster({"r0": {"size": str(size), "peer_timeout": "30s"}})


def seconds_of_steps(size):
    """Step → how long it took on a volume of that size."""
    found = {}
    with make(size) as cluster:
        alpha, beta = cluster.start().nodes

        def step(name, act):
            began = time.monotonic()
            act()
            found[name] = time.monotonic() - began

        step("create", lambda: alpha.ctl("create", "r0"))
        step("promote", lambda: alpha.ctl("promote", "r0"))
        step("in sync", lambda: cluster.wait_in_sync(alpha))
        step("switch", lambda: alpha.ctl("switch", "r0", "--to", "beta"))
        step("in sync again", lambda: cluster.wait_in_sync(beta))
        beta.ctl("disconnect", "r0")
        step("reconnect", lambda: (beta.ctl("connect", "r0"), cluster.wait_in_sync(beta)))
        step("demote", lambda: beta.ctl("demote", "r0"))
    return found


@pytest.mark.alone
def test_no_step_takes_time_as_the_volume_is_large():
    small = seconds_of_steps(sizes.GIB)
    large = seconds_of_steps(sizes.LARGEST)
    slower = {step: (small[step], large[step]) for step in small
              if large[step] > MOST_TIMES_LONGER * small[step]}
    assert not slower, slower


@pytest.mark.seconds(300)  # half a thousand times, the map is synced to the disk
@pytest.mark.skipif(environment.sanitizer() != "",
                    reason="a sanitizer's own memory is what it measures")
def test_a_tebibyte_of_which_every_block_differs_takes_40_mib():
    size = sizes.GIB << 10
    with make(size) as cluster:
        alpha = cluster.start_active().alpha
        alpha.ctl("disconnect", "r0")
        engine = alpha.engine_pid("r0")
        before = sizes.memory(engine, "VmRSS")
        sizes.zero_all(alpha)
        sizes.wait_map_written(cluster, alpha, size)
        assert alpha.peer()["behind_bytes"] == size
        assert sizes.memory(engine, "VmHWM") - before <= MIB_A_TIB
