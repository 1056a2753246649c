# SPDX-License-Identifier: BSD-3-Clause
"""./quickstart: its options, and how a test run deals with stages that fail, hang or are stopped.

The runs are of a copy, with stages of their own.
"""

import os
import shutil
import signal
import subprocess

import pytest

from lib import environment
from lib.waiting import wait_for

pytestmark = pytest.mark.without_build

TABLE = """
# name  when     lane  budget  what
first   default  0     60      runs before all others
hangs   default  1     2       never ends
good    default  2     60      passes
bad     default  2     60      has a test that fails
breaks  default  2     60      ends in the middle
silent  default  2     60      tests nothing
long    all      2     60      only with --all
"""
STAGES = """
stage_first() { record passed "$1" once; }
stage_hangs() { record passed "$1" begun; echo "the last words"; [ -e "$PWD/mended" ] || sleep 600; }
stage_good() { record passed "$1" one; record skipped "$1" two "no time"; echo ran >>good.runs; }
stage_bad() { [ -e mended ] || check "$1" "a check" false; record passed "$1" another; }
stage_breaks() { record passed "$1" begun; [ -e mended ] || exit 3; }
stage_silent() { [ ! -e mended ] || record passed "$1" something; }
stage_long() { record passed "$1" long; }
"""


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(environment.ROOT / "packaging" / "quickstart", root / "packaging/quickstart",
                    ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(environment.ROOT / "quickstart", root)
    stages = root / "packaging/quickstart/stages"
    for file in stages.iterdir():
        file.unlink()
    (stages / "all.sh").write_text(STAGES, encoding="utf-8")
    (root / "packaging/quickstart/stages.table").write_text(TABLE, encoding="utf-8")
    # What they need of the distribution is another test's subject.
    lists = root / "packaging/quickstart/packages.sh"
    lists.write_text(lists.read_text(encoding="utf-8") + "\nmissing_packages() { :; }\n", encoding="utf-8")
    return root


def quickstart(root, *arguments):
    return subprocess.run([root / "quickstart", *arguments], capture_output=True, text=True, timeout=120,
                          check=False, env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin"})


def row(outcome, stage):
    """The stage's line of the summary, as words."""
    found = [line.split() for line in outcome.stdout.splitlines() if line.startswith(f"{stage} ")]
    assert found, outcome.stdout
    return found[-1]


def test_a_run_tells_what_failed_hung_broke_or_tested_nothing(copy):
    outcome = quickstart(copy, "test")
    assert outcome.returncode == 1, outcome.stdout
    counts = {stage: row(outcome, stage)[1:4] for stage in ("first", "hangs", "good", "bad", "breaks", "silent")}
    assert counts == {"first": ["1", "0", "0"], "hangs": ["1", "1", "0"], "good": ["1", "0", "1"],
                      "bad": ["1", "1", "0"], "breaks": ["1", "1", "0"], "silent": ["0", "1", "0"]}
    assert "the last words" in outcome.stdout and "it hung" in outcome.stdout
    assert "over budget: hangs" in outcome.stdout
    assert outcome.stdout.splitlines()[-1] == "5 passed, 4 failed, 1 skipped"
    assert "good: two (no time)" in outcome.stdout
    assert "not run, because they take hours: long" in outcome.stdout
    assert (copy / "build-test/summary.txt").read_text(encoding="utf-8") in outcome.stdout
    assert "the last words" in (copy / "build-test/hangs.log").read_text(encoding="utf-8")


def test_continue_repeats_what_has_not_passed_alone(copy):
    quickstart(copy, "test")
    (copy / "mended").touch()
    outcome = quickstart(copy, "test", "--all", "--continue")
    assert outcome.returncode == 0, outcome.stdout
    assert (copy / "good.runs").read_text(encoding="utf-8") == "ran\n"
    assert "good: passed already" in outcome.stdout
    assert "ran before the last change of the tree" in " ".join(row(outcome, "good"))
    assert "ran before" not in " ".join(row(outcome, "bad"))
    assert row(outcome, "long")[1] == "1"
    assert outcome.stdout.splitlines()[-1] == "7 passed, 0 failed, 1 skipped"


def test_a_run_that_is_stopped_leaves_no_process_and_can_be_continued(copy):
    with subprocess.Popen([copy / "quickstart", "test"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, env={"PATH": "/usr/bin:/bin"}, start_new_session=True) as run:
        def of_session():
            listed = subprocess.run(["ps", "-o", "args=", "-s", str(run.pid)], capture_output=True, text=True,
                                    check=False)
            return listed.stdout
        wait_for(lambda: "sleep 600" in of_session() and (copy / "build-test/silent.done").exists(),
                 "the hanging stage alone to run")
        run.send_signal(signal.SIGTERM)
        said = run.communicate(timeout=60)[0]
        assert run.returncode == 130, said
        assert "--continue" in said
        assert "sleep 600" not in of_session()
    assert not (copy / "build-test/hangs.done").exists()
    (copy / "mended").touch()
    outcome = quickstart(copy, "test", "--continue")
    assert outcome.returncode == 0, outcome.stdout
    assert (copy / "good.runs").read_text(encoding="utf-8") == "ran\n"


def test_one_stage_runs_alone(copy):
    outcome = quickstart(copy, "test", "--only", "long", "--only", "good")
    assert outcome.returncode == 0, outcome.stdout
    assert outcome.stdout.splitlines()[-1] == "2 passed, 0 failed, 1 skipped"
    assert not (copy / "build-test/first.log").exists()


@pytest.mark.parametrize("arguments, words", [
    (["demo", "--nonsense"], "demo has no option '--nonsense'"),
    (["build", "--nonsense"], "build has no option '--nonsense'"),
    (["test", "--nonsense"], "test has no option '--nonsense'"),
    (["test", "--only", "nosuch"], "there is no stage 'nosuch'"),
    (["test", "--only"], "--only needs a stage"),
    (["package", "--nonsense"], "package has no option '--nonsense'"),
    (["package", "--revision", "x"], "--revision needs a number"),
    (["bench", "--nonsense"], "unrecognized arguments: --nonsense"),
    (["nonsense"], "there is no verb 'nonsense'"),
])
def test_options_are_judged_before_anything_is_done(copy, arguments, words):
    before = set(copy.rglob("*"))
    lists = copy / "packaging/quickstart/packages.sh"
    lists.write_text(lists.read_text(encoding="utf-8") + "install_packages() { touch installed; }\n",
                     encoding="utf-8")
    if arguments[0] == "bench":
        for name in ("bench", "e2e", "kernel"):
            os.makedirs(copy / "tests", exist_ok=True)
            (copy / "tests" / name).symlink_to(environment.ROOT / "tests" / name)
    outcome = quickstart(copy, *arguments)
    assert outcome.returncode == 2, outcome
    assert words in outcome.stderr, outcome
    assert {path for path in copy.rglob("*") if "tests" not in path.parts} == before


@pytest.mark.parametrize("verb", ["build", "demo", "test", "package", "bench"])
def test_each_verb_answers_help(copy, verb):
    for arguments in ([verb, "--help"], [verb, "--nonsense", "-h"], ["help", verb]):
        outcome = quickstart(copy, *arguments)
        assert outcome.returncode == 0, outcome
        assert outcome.stdout.startswith(f"Usage: ./quickstart {verb}"), outcome


def test_without_installing_it_is_said_what_is_missing(copy):
    lists = copy / "packaging/quickstart/packages.sh"
    lists.write_text(lists.read_text(encoding="utf-8") + "missing_packages() { echo no-such-package; }\n",
                     encoding="utf-8")
    outcome = quickstart(copy, "build", "--no-install")
    assert outcome.returncode == 1, outcome
    assert "these packages are missing: no-such-package" in outcome.stderr
    assert "run as root:" in outcome.stderr
