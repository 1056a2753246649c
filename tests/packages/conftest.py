# SPDX-License-Identifier: BSD-3-Clause
"""The packages of MIRRORDISK_PACKAGES, and machines to install them on."""

import os
import pathlib

import pytest

from machine import DebMachine, RpmMachine
from scratch import Scratch

PACKAGES = pathlib.Path(os.environ.get(
    "MIRRORDISK_PACKAGES", pathlib.Path(__file__).parents[2] / "build-packages")).resolve()


def installed(kind):
    files = sorted(PACKAGES.glob(f"*.{kind}"))
    if not files:
        pytest.skip(f"no .{kind} here: ./quickstart package --{kind}")
    with Scratch(PACKAGES) as scratch:
        if scratch.obstacle:
            pytest.skip(scratch.obstacle)
        yield {"deb": DebMachine, "rpm": RpmMachine}[kind](scratch, files)


@pytest.fixture(params=["deb", "rpm"])
def machine(request):
    """With the packages not installed yet."""
    yield from installed(request.param)


@pytest.fixture(scope="module", params=["deb", "rpm"])
def installed_machine(request):
    """Shared by tests that only look."""
    for made in installed(request.param):
        made.install()
        yield made
