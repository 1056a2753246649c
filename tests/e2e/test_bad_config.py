# SPDX-License-Identifier: BSD-3-Clause
"""Mistakes in the config file: the file, the line, the key, and nothing started."""

import re
import subprocess

import pytest

from lib import environment


def replace(old, new):
    def change(text):
        assert old in text or re.search(old, text), f"{old} is not in\n{text}"
        return re.sub(old, new, text, count=1)
    return change


def append(extra):
    return lambda text: text + extra


SECOND = '\n[volume.r1]\nsize = "1MiB"\n'

# name → (change to a good file, words of which all must be said, part of the line to be named)
MISTAKES = {
    "not TOML": (replace(r'size = "64MiB"', "size = = 64"), [], "size = ="),
    "unknown key of a volume": (append('sise = "1GiB"\n'), ["sise"], "sise"),
    "unknown key of a node": (replace("run_dir", "rundir"), ["rundir"], "rundir"),
    "unknown table": (append("\n[volumes.r1]\n"), ["volumes"], "volumes.r1"),
    "bad size": (replace("64MiB", "64 elephants"), ["size", "elephants"], "elephants"),
    "size of zero": (replace("64MiB", "0"), ["size"], 'size = "0"'),
    "size that is too large": (replace("64MiB", "9999999999GiB"), ["size"], "9999999999"),
    "negative size": (replace('"64MiB"', "-4096"), ["size"], "-4096"),
    "bad mode": (replace('"sync"', '"fast"'), ["mode", "sync"], "fast"),
    "bad timeout": (replace(r'peer_timeout = "\w+"', 'peer_timeout = "soon"'),
                    ["peer_timeout", "soon"], "soon"),
    "bad on_peer_loss": (append('on_peer_loss = "panic"\n'), ["on_peer_loss", "continue"], "panic"),
    "bad address": (replace(r'address = "[^"]*"', 'address = "nowhere"'), ["address", "nowhere"],
                    "nowhere"),
    "bad port": (replace(r'address = "[^"]*"', 'address = "127.0.0.1:99999"'), ["99999"], "99999"),
    "wrong type": (replace(r'mode = "sync"', "mode = 7"), ["mode"], "mode = 7"),
    "relative backing": (replace(r'"backing.alpha" = "[^"]*"|backing.alpha = "[^"]*"',
                                 'backing.alpha = "r0.img"'), ["backing", "r0.img"], "r0.img"),
    "backing on a node that is not there": (append('backing.gamma = "/x/r0.img"\n'), ["gamma"],
                                            "gamma"),
    "missing backing": (replace(r"backing.beta = .*\n", ""), ["r0", "backing"], None),
    "two volumes with one backing": (
        lambda text: text + SECOND + "".join(
            line + "\n" for line in text.splitlines() if line.startswith("backing.")),
        ["r0", "r1", "r0.img"], None),
    "bad volume name": (replace(r"\[volume.r0\]", '[volume."../r0"]'), ["../r0"], "../r0"),
    "two nodes with one address": (
        lambda text: re.sub(r'address = "[^"]*"', 'address = "127.0.0.1:26001"', text),
        ["alpha", "beta", "127.0.0.1:26001"], None),
}


@pytest.fixture(name="config")
def config_fixture(make_cluster):
    return make_cluster()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_line_and_key(config, mistake):
    change, words, line_part = MISTAKES[mistake]
    text = change(config.config_text())
    config.write_config(text)
    outcome = config.alpha.ctl("check", check=False)
    assert outcome.code == 1, str(outcome)
    said = [outcome.err + outcome.out, refused_by_mirrord(config.alpha)]
    for message in said:
        assert str(config.alpha.config) in message, message
        for word in words:
            assert word in message, f"'{word}' is not in: {message}"
        if line_part:
            numbers = [number for number, line in enumerate(text.splitlines(), 1)
                       if line_part in line]
            assert any(re.search(rf"\b{number}\b", message) for number in numbers), (
                f"none of the lines {numbers} is named: {message}")
    assert not list(config.alpha.state_dir.iterdir())


def test_all_mistakes_are_listed_by_check_and_at_the_start_of_mirrord(config):
    text = config.config_text() + 'device = /dev/sdb\nsise = "1GiB"\ntls = "off"\n'
    config.write_config(text)
    first = len(text.splitlines()) - 2
    expected = [f"{config.alpha.config}:{first + at}: volume.r0.{key}: {words}" for at, key, words in (
        (0, "device", "a value that is not a number must be in quotes; quote it: "),
        (0, "device", "'/dev/sdb' is not a device of the kernel's nbd driver"),
        (1, "sise", "unknown key; did you mean size?"),
        (2, "tls", "tls stands below [volume.r0] at line "))]
    for said in (config.alpha.ctl("check", check=False).err, refused_by_mirrord(config.alpha)):
        for line in expected:
            assert line in said, said
        assert "has 4 mistakes" in said
    listed = config.alpha.ctl("check", "--json", check=False).json["mistakes"]
    assert [entry["line"] for entry in listed] == [first, first, first + 1, first + 2]
    assert listed[2]["key"] == "volume.r0.sise"
    # Who asks for something else is told the first, and that there are others.
    status = config.alpha.ctl("status", check=False)
    assert status.code == 3
    assert "3 more mistakes in the file: mirrorctl check lists all" in status.err


def refused_by_mirrord(node):
    done = subprocess.run([str(environment.MIRRORD)], env=node.environment(), check=False,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=10 * environment.slowness())
    assert done.returncode not in (0, 99), done.stderr
    assert done.returncode > 0, f"mirrord died by signal {-done.returncode}: {done.stderr}"
    return done.stderr


def test_a_missing_file_is_named(config):
    config.alpha.config.unlink()
    for message in (config.alpha.ctl("check", check=False).err, refused_by_mirrord(config.alpha)):
        assert str(config.alpha.config) in message


def test_a_node_that_is_not_in_the_file_is_named_with_those_that_are(config):
    config.alpha.extra_environment["MIRRORDISK_NODE"] = "gamma"
    message = refused_by_mirrord(config.alpha)
    for word in ("gamma", "alpha", "beta"):
        assert word in message


def test_a_second_mirrord_of_a_node_is_refused(make_cluster):
    cluster = make_cluster().start()
    message = refused_by_mirrord(cluster.alpha)
    assert "alpha" in message or cluster.alpha.address in message or "mirrord.sock" in message
    assert cluster.alpha.ctl("version", check=False).code == 0


def test_an_address_in_use_is_named(make_cluster):
    cluster = make_cluster()
    cluster.beta.start()
    port = cluster.beta.address
    text = cluster.config_text().replace(cluster.alpha.address, "127.0.0.1:26999").replace(
        port, cluster.alpha.address).replace("127.0.0.1:26999", port)
    cluster.alpha.config.write_text(text, encoding="utf-8")
    assert port in refused_by_mirrord(cluster.alpha)


def test_a_good_file_passes_the_check(make_cluster):
    cluster = make_cluster().start().create()
    outcome = cluster.alpha.ctl("check")
    assert outcome.code == 0
    assert "beta" in outcome.out, str(outcome)


def test_usage_mistakes_have_a_code_of_their_own(config):
    for arguments in (["frobnicate"], ["promote"], ["status", "--colour"], []):
        outcome = config.alpha.ctl(*arguments, check=False)
        assert outcome.code == 2, str(outcome)
        assert outcome.err.strip(), str(outcome)
