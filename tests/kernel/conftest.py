# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures: two guests for all tests, a volume for each, a deadline, and what failed guests say.

Guests are shared, since it takes long to boot one without KVM; after a failure they are new.
"""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

# pylint: disable=wrong-import-position
from guests import image, products  # noqa: E402
from guests.mirror import Mirror  # noqa: E402
from guests.pair import Pair  # noqa: E402
from lib import deadline as deadlines  # noqa: E402
from lib import environment  # noqa: E402

TEST_SECONDS = 1800
FAILED = pytest.StashKey()


def pytest_configure():
    deadlines.end_in_order()


def pytest_collection_modifyitems(items):
    reason = image.why_not()
    if not reason and not products.packages() and not environment.MIRRORD.exists():
        reason = f"{environment.MIRRORD} is not built"
    for item in items if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.stash[FAILED] = True


@pytest.fixture(autouse=True)
def deadline(request):
    with deadlines.of_test(request, TEST_SECONDS):
        yield


@pytest.fixture(scope="session")
def shared_guests():
    made = Guests()
    yield made
    made.close()


class Guests:
    """The pair in use; another one after it was spoilt."""

    def __init__(self):
        self._pair = None

    def get(self):
        if self._pair is None:
            self._pair = Pair(ready=True, host_syncs=False)
            try:
                self._pair.start()
                products.install_on(self._pair.nodes)
            except BaseException:
                print(self._pair.report())
                self.close()
                raise
        return self._pair

    def close(self):
        if self._pair:
            self._pair.close()
        self._pair = None


@pytest.fixture
def mirror(request, shared_guests):
    """Both guests with mirrordisk installed, and no volume; see Mirror.set_up()."""
    made = Mirror(shared_guests.get())
    yield made
    if request.node.stash.get(FAILED, False):
        print("\n".join(node.report() for node in made.nodes))
        shared_guests.close()
        return
    complaints = {node.name: node.complaints() for node in made.nodes}
    running = all(node.is_running() for node in made.nodes)
    if not running or not made.clean():
        shared_guests.close()
    assert not any(complaints.values()), f"kernels complain: {complaints}"
