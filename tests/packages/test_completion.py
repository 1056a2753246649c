# SPDX-License-Identifier: BSD-3-Clause
"""The completion of mirrorctl in bash, zsh and fish: all of it from --help and the configuration."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = {"bash": "mirrorctl", "zsh": "_mirrorctl", "fish": "mirrorctl.fish"}
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
# Each prints what it offers, one a line; $1 is the script, then come the words.
BASH = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mirrorctl; '
        'printf "%s\\n" "${COMPREPLY[@]}"')
# The functions of zsh's that work at a prompt alone; _mirrorctl is called by being sourced.
ZSH = """
_describe() { local name=${@[-1]}; local -a list=("${(@P)name}")
              (( $#list )) && print -rl -- "${(@)list%%:*}"; return 0 }
_files() { print -rl -- ${words[CURRENT]}*(N) }
_message() { : }
script=$1; shift; words=("$@"); CURRENT=$#words; set --
source $script
"""
FISH = 'source $argv[1]; complete -C "$argv[2..-1]"'


def command_for(shell, words):
    script = str(HERE / "packaging/completion" / SCRIPTS[shell])
    return {"bash": ["bash", "-u", "-c", BASH, "bash", script, *words],
            "zsh": ["zsh", "-f", "-c", ZSH, "zsh", script, *words],
            "fish": ["fish", "--no-config", "-c", FISH, script, *words]}[shell]


@pytest.fixture(params=SCRIPTS)
def complete(request, tmp_path):
    shell = request.param
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    config = tmp_path / "mirrordisk.toml"
    config.write_text(CONFIG, encoding="utf-8")

    def words(*typed, path=config):
        """What is offered for the last word."""
        done = subprocess.run(
            command_for(shell, ["mirrorctl", *typed]),
            env={"PATH": f"{TOOLS}:/usr/bin:/bin", "MIRRORDISK_CONFIG": str(path),
                 "HOME": str(tmp_path)},
            capture_output=True, text=True, check=False, timeout=60)
        assert not done.stderr, done.stderr
        offered = [line.partition("\t")[0] for line in done.stdout.splitlines()]
        return [word for word in offered if word.startswith(typed[-1]) and word]
    words.config = config
    return words


def helped(*verb):
    """The verbs and options that --help names."""
    text = subprocess.run([str(TOOLS / "mirrorctl"), *verb, "--help"], capture_output=True, text=True,
                          check=True).stdout
    return (re.findall(r"^  ([a-z][a-z-]*) ", text.partition("\nVerbs:")[2], re.MULTILINE),
            re.findall(r"^ +(?:-\w,)?(--[a-z][a-z-]*)", text, re.MULTILINE))


def test_every_verb_and_option_of_the_help_is_offered(complete):
    verbs, options = helped()
    assert len(verbs) >= 20
    assert sorted(complete("")) == sorted(verbs)
    assert sorted(complete("--")) == sorted(options)
    for verb in verbs:
        assert sorted(complete(verb, "--")) == sorted(helped(verb)[1]), verb


def test_verbs(complete):
    assert complete("pro") == ["promote"]


def test_volumes_are_those_of_the_configuration(complete):
    assert complete("promote", "") == ["r0", "r1.old"]
    assert complete("promote", "r1") == ["r1.old"]
    assert complete("promote", "r0", "") == []
    assert complete("version", "") == []


def test_nodes_are_those_of_the_configuration(complete):
    assert complete("switch", "r0", "--to", "") == ["alpha", "beta.x"]
    assert complete("--node", "") == ["alpha", "beta.x"]


def test_options_are_those_of_the_verb(complete):
    assert complete("promote", "--fo") == ["--force"]
    assert "--force" not in complete("demote", "--")
    assert complete("wait", "r0", "--for", "in") == ["in-sync"]


def test_options_with_a_value_are_not_taken_for_verbs(complete):
    assert complete("--node", "alpha", "promote", "r") == ["r0", "r1.old"]
    assert complete("events", "--since", "1h", "r") == ["r0", "r1.old"]


def test_nothing_is_offered_where_a_time_or_a_number_is_wanted(complete):
    assert complete("wait", "r0", "--timeout", "") == []


def test_files_are_offered_where_a_file_is_wanted(complete):
    for option in (["--config"], ["support", "--output"], ["undo", "r0", "--export"]):
        assert str(complete.config) in complete(*option, str(complete.config)[:-3])


def test_the_configuration_named_on_the_line_counts(complete, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text("[volume.zz]\n", encoding="utf-8")
    assert complete("--config", str(other), "promote", "") == ["zz"]


def test_it_does_not_wait_for_a_configuration_that_is_none(complete, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert complete("promote", "", path=fifo) == []
    assert complete("promote", "", path=tmp_path / "missing") == []


def test_zsh_finds_the_completion_by_the_name_of_its_file(tmp_path):
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed")
    done = subprocess.run(
        ["zsh", "-f", "-c", 'fpath=($1 $fpath); autoload -U compinit; compinit -u -D; '
         'print $_comps[mirrorctl]', "zsh", str(HERE / "packaging/completion")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, capture_output=True, text=True,
        check=True, timeout=60)
    assert done.stdout.strip() == "_mirrorctl", done.stderr
