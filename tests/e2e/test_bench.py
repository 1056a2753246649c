# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark's arithmetic, its tables, and that its loads and its checks do what they say."""

import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from lib import environment, tools
from lib.waiting import accepts, wait_for

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / "bench"), str(TESTS / "kernel")]

# pylint: disable=wrong-import-position
import backing  # noqa: E402
import figures  # noqa: E402
import goals  # noqa: E402
import guest_runner  # noqa: E402
import guest_targets  # noqa: E402
import jobs  # noqa: E402
import load  # noqa: E402
import mirrordisk  # noqa: E402
import plots  # noqa: E402
import resync  # noqa: E402
import stock  # noqa: E402
import table  # noqa: E402
from target import Target  # noqa: E402

pytestmark = pytest.mark.without_build


def samples_of(target, values, job="randwrite-4k-qd1", **more):
    return [{"mode": "pinned", "job": job, "target": target, "round": number, "value": value} | more
            for number, value in enumerate(values)]


SAMPLES = samples_of("mirror", [100, 300, 220]) + samples_of("quorum", [50, 300, 200])
JOB = jobs.by_name("randwrite-4k-qd1")


def ratio(samples, target="mirror", base="quorum"):
    return figures.paired_ratio(samples, "pinned", JOB.name, target, base)


# -- arithmetic ------------------------------------------------------------------------------------

def test_a_summary_is_the_median_and_the_range():
    found = figures.summary(SAMPLES, "pinned", JOB.name, "mirror")
    assert found == figures.Range(median=220, least=100, greatest=300, count=3)


def test_a_ratio_is_taken_round_by_round():
    # The ratio of the medians, 220 / 200, happens to be the same; its range would not be.
    assert ratio(SAMPLES) == figures.Range(median=1.1, least=1.0, greatest=2.0, count=3)


def test_the_median_of_ratios_is_not_the_ratio_of_medians():
    found = ratio(samples_of("mirror", [10, 20, 30]) + samples_of("quorum", [10, 10, 100]))
    assert found.median == 1.0


def test_a_round_in_which_one_is_missing_makes_no_ratio():
    assert ratio(samples_of("mirror", [10, 20]) + samples_of("quorum", [10])).count == 1
    assert ratio(samples_of("mirror", [10])) is None


def test_samples_of_another_mode_do_not_count():
    other = [sample | {"mode": "free", "value": 9999} for sample in SAMPLES]
    assert ratio(SAMPLES + other) == ratio(SAMPLES)


@pytest.mark.parametrize("least, met", [(1.1, True), (1.2, False)])
def test_a_goal_is_held_against_the_median(least, met):
    wanted = goals.Goal(JOB.name, "mirror", "quorum", least)
    assert goals.judge(SAMPLES, [wanted])[0]["met"] is met


def test_a_goal_that_was_not_measured_is_not_missed():
    judged = goals.judge([], goals.GOALS)
    assert {goal["met"] for goal in judged} == {None}


def test_a_goal_in_seconds_is_met_below_its_limit():
    wanted = [goals.Goal(jobs.SWITCH, "mirror", below=1.0)]
    assert goals.judge(samples_of("mirror", [0.4], jobs.SWITCH), wanted)[0]["met"] is True
    assert goals.judge(samples_of("mirror", [1.4], jobs.SWITCH), wanted)[0]["met"] is False


def test_every_goal_names_a_job_and_targets_that_there_are():
    modes = {job.name: job.modes for job in jobs.JOBS}
    modes |= {job.name: (guest_runner.MODE,) for job in guest_runner.JOBS}
    targets = {target.name for target in (*stock.TARGETS, *mirrordisk.TARGETS,
                                          *guest_targets.TARGETS)} | set(resync.TITLES)
    for goal in goals.GOALS:
        assert goal.mode in modes[goal.job]
        assert {goal.target, goal.base or goal.target} <= targets


def test_a_target_is_limited_to_jobs_that_there_are():
    names = {job.name for job in jobs.JOBS}
    for target in (*stock.TARGETS, *mirrordisk.TARGETS):
        assert set(target.only_jobs) <= names


# -- what is shown ---------------------------------------------------------------------------------

def test_the_table_shows_value_range_latency_and_ratio():
    samples = [sample | {"latency_us": {"50": 9, "99": 30, "99.9": 80}} for sample in SAMPLES]
    head, row, _ = table.job_rows(samples, "pinned", JOB, ["mirror", "quorum"])
    assert row == ["mirror", "220 (100-300)", "9/30/80", "1.10 (1.00-2.00)"]
    # Nobody has CPU times here, and there is no `file`: no columns for them.
    assert head == ["target", "op/s", "p50/p99/p99.9 us", "to quorum"]


def test_a_markdown_table_has_as_many_cells_in_each_line():
    lines = table.markdown(table.goal_rows(goals.judge(SAMPLES))).splitlines()
    assert len(lines) == len(goals.GOALS) + 2
    assert len({line.count("|") for line in lines}) == 1


def test_plots_are_well_formed_and_escape_what_they_show():
    drawn = plots.draw(SAMPLES, jobs.JOBS, {"mirror": "this <project> & co"})
    assert "random-writes-pinned.svg" in drawn
    for text in drawn.values():
        xml.etree.ElementTree.fromstring(text)


# -- loads and checks ------------------------------------------------------------------------------

@pytest.fixture
def logged(tmp_path):
    """An NBD server that writes down every request: (URI, its log)."""
    tools.require_tool("nbdkit")
    socket, log = tmp_path / "s", tmp_path / "requests"
    process = subprocess.Popen(["nbdkit", "-f", "-U", str(socket), "--filter=log", "memory", "16M",
                                f"logfile={log}"])
    wait_for(lambda: accepts(socket), "nbdkit to listen")
    yield f"nbd+unix:///?socket={socket}", log
    process.kill()
    process.wait()


def run_load(job, uri, directory):
    if job.durability and not (environment.BUILD / "tests/bench/nbd_load").exists():
        pytest.skip("tests/bench/nbd_load is not built")
    if job.fio:
        tools.require_tool("fio")
    return load.run(job, uri, 0.3, 1, "free", directory)


def test_a_load_with_fua_sends_it_with_every_write(logged, tmp_path):
    uri, log = logged
    sample = run_load(jobs.by_name("fua-4k-qd16"), uri, tmp_path)
    writes = [line for line in log.read_text().splitlines() if " Write id=" in line]
    assert all("fua=1" in line for line in writes)
    assert len(writes) == sample["operations"] > 0


def test_a_load_with_flushes_sends_one_for_every_write(logged, tmp_path):
    uri, log = logged
    sample = run_load(jobs.by_name("flush-4k-qd16"), uri, tmp_path)
    text = log.read_text()
    assert text.count(" Flush id=") == text.count(" Write id=") == sample["operations"] > 0


def test_a_mixed_load_reads_and_writes(logged, tmp_path):
    uri, log = logged
    sample = run_load(jobs.by_name("mixed-4k-qd16"), uri, tmp_path)
    text = log.read_text()
    reads, writes = text.count(" Read id="), text.count(" Write id=")
    assert 0 < writes < reads
    assert abs(reads + writes - sample["operations"]) <= 16  # what was in flight at the end
    assert set(sample["latency_us"]) == {"50", "99", "99.9"}


def test_a_load_that_fails_is_not_a_sample(tmp_path):
    with pytest.raises(load.LoadFailed):
        run_load(jobs.by_name("fua-4k-qd1"), f"nbd+unix:///?socket={tmp_path}/nobody", tmp_path)


def test_a_target_whose_copies_differ_is_seen(tmp_path):
    class Liar(Target):
        name = "liar"
        replicates = True

        def start(self):
            pass
    target = Liar(tmp_path, 1 << 20)
    target.directory.mkdir()
    for name in ("one", "two"):
        target.make_file(name)
    target.check_equal()
    with open(target.files[1], "r+b") as file:
        file.seek(4097)
        file.write(b"x")
    with pytest.raises(load.LoadFailed, match="liar: the replicas differ"):
        target.check_equal()


@pytest.mark.parametrize("cached", [False, True])
def test_the_page_cache_is_in_the_stated_state(tmp_path, cached):
    tools.require_tool("fincore")
    kind = subprocess.run(["findmnt", "-n", "-o", "FSTYPE", "-T", str(tmp_path)],
                          capture_output=True, text=True, check=True).stdout.strip()
    if kind in ("tmpfs", "overlay"):
        pytest.skip(f"nothing can be evicted on {kind}")
    file = tmp_path / "file"
    file.write_bytes(b"x" * (1 << 20))
    backing.reset([file], cached)
    pages = subprocess.run(["fincore", "-n", "-o", "PAGES", str(file)], capture_output=True,
                           text=True, check=True).stdout
    assert int(pages) == (256 if cached else 0)
