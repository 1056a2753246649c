# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures: a cluster that cleans up after itself, a seed that is printed, a deadline for all."""

import os
import random

import pytest

from lib import deadline as deadlines
from lib import disks, environment
from lib.cluster import Cluster
from lib.load import Load
from lib.namespaces import Namespaces

TEST_SECONDS = 180


def pytest_configure():
    deadlines.end_in_order()


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):  # of several at once, the long ones must not begin last
        items.sort(key=_longest_first)
    if environment.MIRRORD.exists() or os.environ.get("MIRRORDISK_BUILD"):
        return
    for item in items:
        if "without_build" not in item.keywords:
            item.add_marker(pytest.mark.skip(reason=f"{environment.MIRRORD} is not built"))


def _longest_first(item):
    """By the limit of those that are marked as long; the others follow in their order."""
    marker = item.get_closest_marker("seconds")
    return -marker.args[0] if marker else 0


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.stash[FAILED] = True


FAILED = pytest.StashKey()


@pytest.fixture(autouse=True)
def deadline(request):
    with deadlines.of_test(request, TEST_SECONDS):
        yield


@pytest.fixture
def seed():
    value = int(os.environ.get("MIRRORDISK_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"MIRRORDISK_TEST_SEED={value}")
    return value


@pytest.fixture
def rng(seed):
    return random.Random(seed)


@pytest.fixture
def make_cluster(request):
    """Clusters of this test; closed afterwards, kept on disk if the test failed."""
    made = []

    def make(*arguments, **options):
        made.append(Cluster(*arguments, **options))
        return made[-1]

    yield make
    for cluster in made:
        if request.node.stash.get(FAILED, False):
            cluster.keep = True
            print(cluster.logs())
        cluster.close()


@pytest.fixture
def cluster(make_cluster):
    """alpha active, beta standby, r0 of 64 MiB in sync."""
    return make_cluster().start_active()


@pytest.fixture(params=environment.DOORS)
def door(request, monkeypatch):
    """For a test that is run through each door by default, whichever the others are run through."""
    monkeypatch.setattr(environment, "DOOR", request.param)
    return request.param


@pytest.fixture
def fuse_backing(make_cluster):  # requested first, so that what hangs is freed before it ends
    """fuse_backing(cluster, node): the node's backing becomes a disk that can hang or fail."""
    del make_cluster
    made = []

    def make(cluster, node, volume="r0", kind=disks.FuseDisk, **options):
        if reason := disks.why_not():
            pytest.skip(reason)
        made.append(kind(cluster.directory, f"{node.name}-{volume}", cluster.marker, **options))
        cluster.volumes[volume][f"backing.{node.name}"] = str(made[-1].path)
        cluster.write_config()
        return made[-1]

    yield make
    for disk in made:
        disk.close()


@pytest.fixture
def namespaces(make_cluster):
    made = []

    def make(cluster):
        made.append(Namespaces(cluster))
        return made[-1]
    del make_cluster
    yield make
    for pair in made:
        pair.close()


@pytest.fixture
def make_load(seed):
    """Loads of this test; whatever the test left running ends with it."""
    made = []

    def make(sockets, **options):
        made.append(Load(sockets, seed + len(made), **options))
        return made[-1]

    yield make
    for load in made:
        if load._thread.is_alive():  # pylint: disable=protected-access
            load.abandon()
