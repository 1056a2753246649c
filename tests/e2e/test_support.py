# SPDX-License-Identifier: BSD-3-Clause
"""mirrorctl support: one file with what helps, and nothing that must not leave the machine."""

import json
import stat
import tarfile

import pytest

from lib import credentials, environment, machine_time

KEY = "5ec7e75ec7e75ec7e75ec7e75ec7e7ab" * 2
PRIVATE = "MHcCAQEEIPlantedPrivateKeyThatNobodyMaySee"


def bundle_of(node, *arguments, check=True):
    """The answer, and the parts by name; the last argument is the file."""
    said = node.ctl("support", "--json", "--output", *arguments, check=check)
    with tarfile.open(arguments[-1]) as archive:
        parts = {member.name.partition("/")[2]: archive.extractfile(member).read()
                 for member in archive.getmembers()}
    return said.json, parts


def left_out(answer):
    return {part["name"]: part["why"] for part in answer["left_out"]}


def test_the_bundle_has_what_helps(cluster):
    file = cluster.directory / "bundle.tar.gz"
    answer, parts = bundle_of(cluster.alpha, file)
    assert answer["file"] == str(file) and answer["bytes"] == file.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    [volume] = json.loads(parts["status.json"])["volumes"]
    assert volume["name"] == "r0" and volume["state"] == "in-sync"
    assert [node["node"] for node in json.loads(parts["check.json"])["nodes"]]
    assert json.loads(parts["metadata/r0.json"])["of_node"] == "alpha"
    assert b'"promoted"' in parts["events.jsonl"]
    assert b"[volume.r0]" in parts["config/mirrordisk.toml"]
    assert b"meta" in parts["listings/state_dir.txt"] and b"r0.sock" in parts["listings/run_dir.txt"]
    engine = parts["processes/engine-r0.txt"].decode()
    assert f"Pid:\t{cluster.alpha.engine_pid()}\n" in engine and "== thread " in engine
    assert b"mirrord" in parts["processes/mirrord.txt"]
    assert b"Linux" in parts["versions/uname.txt"] and parts["disks/df.txt"]
    contents = parts["CONTENTS.txt"].decode()
    for name in set(parts) - {"CONTENTS.txt"}:
        assert f"taken     {name}: " in contents
    for name, why in left_out(answer).items():
        assert f"left out  {name}: {why}" in contents


def test_no_key_gets_into_the_bundle_wherever_somebody_has_put_one(make_cluster):
    cluster = make_cluster()
    for node in cluster.nodes:
        credentials.write_key(node.key_file, "planted", KEY)
    text = cluster.config_text()
    cluster.write_config(f"# key-old:{KEY.upper()}\n# {KEY}\n"
                         f"# -----BEGIN PRIVATE KEY-----\n# {PRIVATE}\n"
                         f"# -----END PRIVATE KEY-----\n{text}")
    cluster.start_active()
    log = cluster.alpha.state_dir / "events.jsonl"
    with log.open("ab") as events:
        events.write(b'{"id":"note","text":"' + KEY.encode() + b" " + bytes.fromhex(KEY) + b'"}\n')
    _, parts = bundle_of(cluster.alpha, cluster.directory / "bundle.tar.gz")
    assert b"[removed: key]" in parts["config/mirrordisk.toml"]
    assert b"[removed: key]" in parts["events.jsonl"]
    for name, content in parts.items():
        assert KEY.encode() not in content.lower(), name
        assert bytes.fromhex(KEY) not in content, name
        assert PRIVATE.encode() not in content, name


def test_a_bundle_is_made_without_mirrord(cluster):
    cluster.alpha.kill_daemon()
    answer, parts = bundle_of(cluster.alpha, cluster.directory / "bundle.tar.gz")
    missing = left_out(answer)
    for name in ("version.json", "status.json", "check.json"):
        assert "mirrord of node alpha is not running" in missing[name], missing
    assert {"events.jsonl", "metadata/r0.json", "processes/engine-r0.txt"} <= set(parts)
    cluster.alpha.start()
    cluster.wait_in_sync(cluster.alpha)


@pytest.mark.seconds(25)
def test_a_mirrord_that_hangs_is_waited_for_once(cluster):
    cluster.alpha.pause()
    start = machine_time.now()
    try:
        answer, parts = bundle_of(cluster.alpha, cluster.directory / "bundle.tar.gz")
    finally:
        cluster.alpha.go_on()
    assert machine_time.now() - start < 40 * environment.slowness()  # each question has 15 s
    assert {"version.json", "status.json", "check.json"} <= set(left_out(answer))
    assert b"State:\tT" in parts["processes/mirrord.txt"]
    cluster.wait_in_sync(cluster.alpha)


def test_a_bundle_is_made_with_a_configuration_that_is_wrong(cluster):
    good = cluster.alpha.config.read_text(encoding="utf-8")
    cluster.alpha.config.write_text(good + "\n[volume.r0\n", encoding="utf-8")
    _, parts = bundle_of(cluster.alpha, cluster.directory / "bundle.tar.gz")
    assert str(cluster.alpha.config).encode() in parts["config/problem.txt"]
    assert b"[volume.r0\n" in parts["config/mirrordisk.toml"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_there_is_not_overwritten(cluster, kind):
    there = cluster.directory / "there"
    target = cluster.directory / "target"
    if kind == "file":
        there.write_text("mine", encoding="utf-8")
    else:
        there.symlink_to(target)
    refused = cluster.alpha.ctl("support", "--output", there, check=False)
    assert refused.code == 1 and f"{there} exists already" in refused.err, str(refused)
    assert not target.exists()
    assert kind == "link" or there.read_text(encoding="utf-8") == "mine"


def test_a_file_that_can_not_be_made_is_named(cluster):
    refused = cluster.alpha.ctl("support", "--output", cluster.directory / "none" / "x", check=False)
    assert refused.code == 1 and "none/x: No such file or directory" in refused.err, str(refused)
