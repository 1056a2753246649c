# SPDX-License-Identifier: BSD-3-Clause
"""A short run of the benchmark: what it prints and writes, and that it leaves nothing behind."""

import json
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import pytest

from lib import environment, tools

BENCH = environment.ROOT / "tests" / "bench"
SHORT = ("--rounds=2", "--seconds=0.2", "--size=16", "--resync-size=32", "--modes=free")


@pytest.fixture
def directory():
    """Not pytest's: the path of a Unix socket must be short."""
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        yield pathlib.Path(made)


@pytest.fixture
def bench(directory):
    """Runs it with these options: (what it printed, what it wrote as JSON)."""
    for tool in ("fio", "nbdkit", "nbdcopy"):
        tools.require_tool(tool)

    def run(*options):
        figures = directory / "figures.json"
        done = subprocess.run(
            [sys.executable, "-B", BENCH / "bench", *SHORT, f"--directory={directory}",
             f"--json={figures}", *options],
            capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not list(directory.glob("mirrordisk-bench-*"))
        return done.stdout, json.loads(figures.read_text(encoding="utf-8"))
    return run


def test_this_project_is_measured_beside_another_in_every_round(bench):
    printed, found = bench("--jobs=randwrite-4k-qd16", "--targets=file,mirror,mirror-tls")
    assert not found["broken"] and not found["skipped"]
    measured = [(sample["target"], sample["round"]) for sample in found["samples"]]
    assert sorted(measured) == [(name, number) for name in ("file", "mirror", "mirror-tls")
                                for number in (0, 1)]
    for sample in found["samples"]:
        assert sample["value"] > 0 and set(sample["latency_us"]) == {"50", "99", "99.9"}
        assert sample["cpu_us_per_operation"]["servers"] > 0
    assert "to file" in printed and "loads of 0.2 s" in printed


def test_a_door_that_is_not_served_is_skipped_with_a_reason(bench):
    _, found = bench("--jobs=randwrite-4k-qd16", "--targets=file,mirror-express")
    express = [sample for sample in found["samples"] if sample["target"] == "mirror-express"]
    assert len(express) == 2 or "does not serve" in found["skipped"]["mirror-express"]


def test_a_resync_and_what_it_costs_the_application_are_measured(bench):
    _, found = bench("--jobs=resync-*,switch-idle", "--targets=mirror", "--modes=pinned")
    assert not found["broken"]
    names = {(sample["job"], sample["target"]) for sample in found["samples"]}
    assert {("resync-full", "mirror"), ("resync-full", "nbdcopy"),
            ("resync-1-percent", "mirror-in-sync"), ("resync-latency", "mirror-at-rest"),
            ("resync-latency", "mirror-resyncing"), ("switch-idle", "mirror")} <= names


def test_pages_have_every_plot_that_they_show(bench, tmp_path):
    pages = tmp_path / "pages"
    bench("--jobs=randwrite-4k-qd16", "--targets=file,mirror", "--publish", f"--pages={pages}")
    text = (pages / "README.md").read_text(encoding="utf-8")
    plots = sorted(path.name for path in pages.glob("*.svg"))
    assert plots and all(f"({name})" in text for name in plots)
    for name in plots:
        xml.etree.ElementTree.parse(pages / name)
    assert json.loads((pages / "figures.json").read_text(encoding="utf-8"))["samples"]
