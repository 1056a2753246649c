# SPDX-License-Identifier: BSD-3-Clause
"""Two nodes from nothing: no configuration, no key, no ssh."""

import json
import os
import pty
import re
import select
import subprocess
import time

import pytest

from lib import environment

BEGIN = "-----BEGIN MIRRORDISK JOIN-----"


@pytest.fixture(name="bare")
def bare_fixture(make_cluster):
    """Two machines on which nothing is set up."""
    if environment.tls() != "psk":
        pytest.skip("init makes pre-shared keys")
    cluster = make_cluster()
    for node in cluster.nodes:
        node.config.unlink()
        node.key_file.unlink()
    return cluster


def members(cluster):
    words = []
    for node in cluster.nodes:
        words += ["--member", f"{node.name}={node.address},run_dir={node.run_dir},"
                              f"state_dir={node.state_dir}"]
    return words


def volume(cluster, name="r0", **keys):
    own = cluster.volumes["r0"] | {"device": "none"} | keys
    return ["--volume", ",".join([name, *(f"{key}={value}" for key, value in own.items())])]


def init(cluster, *words, check=True):
    return cluster.alpha.ctl("init", *members(cluster), *volume(cluster), *words, check=check)


def join(node, block, *words, check=True):
    done = subprocess.run([str(environment.MIRRORCTL), "init", "--join", *words], input=block,
                          capture_output=True, text=True, env=node.environment(), check=False,
                          timeout=20 * environment.slowness())
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def mode(path):
    return path.stat().st_mode & 0o777


def test_two_nodes_are_set_up_by_init_and_join_alone(bare):
    """What is typed: five commands, of which each is one that the one before named."""
    alpha, beta = bare.nodes
    said = init(bare).out
    for command in ("mirrorctl init --show-join", "mirrorctl init --join",
                    "systemctl enable --now mirrord", "mirrorctl check", "mirrorctl create r0",
                    "mirrorctl promote r0"):
        assert command in said, said
    joined = join(beta, alpha.ctl("init", "--show-join").out).stdout
    assert "systemctl enable --now mirrord" in joined
    for node in bare.nodes:
        assert mode(node.config) == 0o644
        assert mode(node.key_file) == 0o600
    bare.start()
    assert "no problems" in alpha.ctl("check").out
    bare.create()
    alpha.ctl("promote", "r0")
    bare.wait_in_sync(alpha)
    assert alpha.events("daemon-started") and beta.events("daemon-started")
    alpha.ctl("switch", "r0")
    bare.wait_in_sync(beta)
    beta.ctl("demote", "r0")
    bare.assert_replicas_equal()


def test_a_second_run_with_equal_values_has_nothing_to_do(bare):
    init(bare)
    before = [path.read_bytes() for path in (bare.alpha.config, bare.alpha.key_file)]
    again = init(bare, "--json")
    assert again.code == 0
    assert again.json["changed"] is False
    assert before == [path.read_bytes() for path in (bare.alpha.config, bare.alpha.key_file)]
    block = bare.alpha.ctl("init", "--show-join").out
    join(bare.beta, block)
    done = join(bare.beta, block, "--json")
    assert json.loads(done.stdout)["changed"] is False


def test_a_dry_run_writes_nothing_and_prints_what_the_run_writes(bare):
    dry = init(bare, "--dry-run", "--json").json
    assert not bare.alpha.config.exists() and not bare.alpha.key_file.exists()
    init(bare)
    assert bare.alpha.config.read_text(encoding="utf-8") == dry["config"]


def test_what_is_there_is_not_overwritten(bare):
    init(bare)
    before = bare.alpha.config.read_text(encoding="utf-8")
    words = [*members(bare), *volume(bare, size="32MiB")]
    refused = bare.alpha.ctl("init", *words, check=False)
    assert refused.code == 1
    assert 'size = "64MiB"' in refused.err and "--force" in refused.err
    assert bare.alpha.config.read_text(encoding="utf-8") == before
    forced = bare.alpha.ctl("init", *words, "--force", confirm=False)
    assert 'gone: size = "64MiB"' in forced.out
    kept = bare.alpha.config.with_suffix(".toml.old")
    assert kept.read_text(encoding="utf-8") == before


def test_the_secret_is_not_shown_when_it_is_pasted_into_a_terminal(bare):
    init(bare)
    block = bare.alpha.ctl("init", "--show-join").out
    ours, theirs = pty.openpty()
    with subprocess.Popen([str(environment.MIRRORCTL), "init", "--join"], stdin=theirs,
                          stdout=theirs, stderr=theirs, env=bare.beta.environment()) as process:
        os.close(theirs)
        seen = read_terminal(ours, until="paste")
        os.write(ours, block.encode())
        seen += read_terminal(ours)
        assert process.wait(20 * environment.slowness()) == 0, seen
    os.close(ours)
    assert BEGIN not in seen
    for line in block.splitlines()[1:-1]:
        assert line not in seen
    assert bare.beta.key_file.read_bytes() == bare.alpha.key_file.read_bytes()


def read_terminal(terminal, until=None):
    """What is printed there, to that word or to the end."""
    seen = b""
    deadline = time.monotonic() + 20 * environment.slowness()
    while until is None or until.encode() not in seen or not seen.endswith(b"\n"):
        assert time.monotonic() < deadline, seen
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the last program has closed it
            break
        if not part:
            break
        seen += part
    return seen.decode()


def test_a_block_that_is_not_whole_is_refused(bare):
    init(bare)
    lines = bare.alpha.ctl("init", "--show-join").out.splitlines(keepends=True)
    for damaged in (lines[:-1], lines[:2] + lines[3:], lines[1:], []):
        done = join(bare.beta, "".join(damaged), check=False)
        assert done.returncode == 1, done.stdout
        assert "--show-join" in done.stderr
    assert not bare.beta.config.exists() and not bare.beta.key_file.exists()
    # What stands before and after it, blanks and line ends do no harm.
    mended = "$ mirrorctl init --show-join\r\n" + "".join(
        re.sub("\n", " \r\n", line) for line in lines) + "$ "
    join(bare.beta, mended)


def test_all_that_is_wrong_with_the_words_is_said_at_once(bare):
    done = bare.alpha.ctl("init", *members(bare),
                          *volume(bare, size="64MB", device="/dev/sdb", mode="fast"), check=False)
    assert done.code == 1
    for words in ("volume.r0.size: 'MB'", "volume.r0.device: '/dev/sdb'", "volume.r0.mode: 'fast'"):
        assert words in done.err
    assert not bare.alpha.config.exists()
