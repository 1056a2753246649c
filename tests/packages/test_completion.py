# SPDX-License-Identifier: BSD-3-Clause
"""The bash completion of mirrorctl."""

import os
import pathlib
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = HERE / "packaging/completion/mirrorctl"
TOOLS = pathlib.Path(os.environ.get("MIRRORDISK_BUILD", HERE / "build")) / "tools"
CONFIG = """
[node.alpha]
address = "10.0.0.1:10809"
[ node . "beta.x" ]  # a comment
address = "10.0.0.2:10809"
[volume.r0]
[volume.'r1.old']
# [volume.commented]
backing.alpha = "/x"
"""


@pytest.fixture
def complete(tmp_path):
    config = tmp_path / "mirrordisk.toml"
    config.write_text(CONFIG, encoding="utf-8")

    def words(*typed, path=config):
        script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mirrorctl; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(
            ["bash", "-u", "-c", script, "bash", str(SCRIPT), "mirrorctl", *typed],
            env={"PATH": f"{TOOLS}:/usr/bin:/bin", "MIRRORDISK_CONFIG": str(path)},
            capture_output=True, text=True, check=True, timeout=60)
        assert not done.stderr, done.stderr
        return done.stdout.split()
    return complete_with(words, config)


def complete_with(words, config):
    words.config = config
    return words


def test_verbs(complete):
    assert {"create", "status", "promote", "demote", "switch", "verify"} <= set(complete(""))
    assert complete("pro") == ["promote"]


def test_volumes_are_those_of_the_configuration(complete):
    assert complete("promote", "") == ["r0", "r1.old"]
    assert complete("promote", "r1") == ["r1.old"]
    assert complete("promote", "r0", "") == []


def test_nodes_are_those_of_the_configuration(complete):
    assert complete("switch", "r0", "--to", "") == ["alpha", "beta.x"]
    assert complete("--node", "") == ["alpha", "beta.x"]


def test_options_are_those_of_the_verb(complete):
    assert complete("promote", "--fo") == ["--force"]
    assert "--force" not in complete("demote", "--")
    assert complete("wait", "r0", "--for", "in") == ["in-sync"]


def test_options_with_a_value_are_not_taken_for_verbs(complete):
    assert complete("--node", "alpha", "promote", "r0") == ["r0"]


def test_files_are_offered_where_a_file_is_wanted(complete):
    assert str(complete.config) in complete("--config", str(complete.config)[:-3])


def test_the_configuration_named_on_the_line_counts(complete, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("[volume.zz]\n", encoding="utf-8")
    assert complete("--config", str(other), "promote", "") == ["zz"]


def test_it_does_not_wait_for_a_configuration_that_is_none(complete, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert complete("promote", "", path=fifo) == []
    assert complete("promote", "", path=tmp_path / "missing") == []
