# SPDX-License-Identifier: BSD-3-Clause
"""The configuration changes while a volume is in use: what is in force is told to the engine, the
rest stays as a whole, and whoever looks is told what is left to do."""

import pathlib

import nbd
import pytest

from lib import control, environment, processes

STEP = "mirrorctl restart-engine r0"


def restart(node):
    node.stop()
    node.start()


def change(cluster, **keys):
    """The same new file on both nodes; mirrord has not read it yet."""
    cluster.volumes["r0"] |= keys
    cluster.write_config()


def pending(node, volume="r0"):
    return {entry["setting"]: entry for entry in node.status(volume)["settings_pending"]}


def wait_settled(cluster, node):
    def settled():
        status = node.status()
        assert status["settings_pending"] == [], status["settings_pending"]
        assert not status["warnings"] or "unencrypted" in status["warnings"][0], status["warnings"]
        return True
    cluster.wait(settled, f"the settings of {node.name} to be in force")
    assert "no problems" in node.ctl("check").out


def wait_in_force(cluster, setting, value, node=None):
    """In the engine that runs, and in the session that it has."""
    node = node or cluster.alpha

    def taken():
        found = [event for event in node.events("settings-taken") if f"{setting} is {value}" in
                 event["text"]]
        assert found, node.events("settings-taken")
        return found
    return cluster.wait(taken, f"{setting} to be {value}")


def write(node, data, volume="r0"):
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket(volume)))
    handle.pwrite(data, 0)
    handle.flush()
    handle.shutdown()


def read(node, length, volume="r0"):
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket(volume)))
    data = bytes(handle.pread(length, 0))
    handle.shutdown()
    return data


def open_files(pid):
    return {str(pathlib.Path(f"/proc/{pid}/fd/{name}").resolve())
            for name in [path.name for path in pathlib.Path(f"/proc/{pid}/fd").iterdir()]}


@pytest.fixture(name="pair")
def pair_fixture(make_cluster):
    return make_cluster().start_active()


@pytest.mark.parametrize("first", ["alpha", "beta"])
def test_another_peer_timeout_needs_no_further_step(pair, first):
    first, second = (pair.alpha, pair.beta) if first == "alpha" else (pair.beta, pair.alpha)
    engine = pair.alpha.engine_pid()
    change(pair, peer_timeout="7s")
    restart(first)
    restart(second)
    wait_in_force(pair, "peer_timeout", "7000ms")
    pair.wait_in_sync(pair.alpha)
    wait_settled(pair, pair.alpha)
    wait_settled(pair, pair.beta)
    assert pair.alpha.engine_pid() == engine
    assert not pair.alpha.events("settings-pending")


def test_a_peer_that_moved_is_found_under_load(pair, make_load):
    engine = pair.alpha.engine_pid()
    load = make_load([pair.alpha.socket()], follow=True).start()
    load.wait_progress(20)
    pair.beta.address = f"127.0.0.1:{environment.free_ports(1)[0]}"
    pair.write_config()
    restart(pair.beta)
    restart(pair.alpha)
    wait_in_force(pair, "address.beta", pair.beta.address)
    pair.wait_in_sync(pair.alpha)
    wait_settled(pair, pair.alpha)
    load.wait_progress(20)
    load.stop()
    assert not load.errors
    load.verify_volume(pair.alpha.socket())
    pair.wait_in_sync(pair.alpha)
    pair.assert_replicas_equal()
    assert pair.alpha.engine_pid() == engine


def test_encryption_is_switched_while_the_volume_is_in_use(pair):
    assert pair.alpha.peer()["tls"], pair.alpha.peer()
    pair.tls = "off"
    for node in pair.nodes:
        node.tls = "off"
    pair.write_config()
    restart(pair.beta)
    restart(pair.alpha)
    wait_in_force(pair, "tls", "off")
    pair.wait_in_sync(pair.alpha)
    assert pair.alpha.peer()["tls"] is None
    pair.tls = "psk"
    for node in pair.nodes:
        node.tls = "psk"
    pair.write_config()
    restart(pair.alpha)
    restart(pair.beta)
    pair.wait(lambda: pair.alpha.state() == "in-sync" and pair.alpha.peer()["tls"],
              "the session to be encrypted again")
    wait_settled(pair, pair.alpha)


def test_writes_that_wait_for_the_peer_go_on_when_the_new_settings_say_so(pair):
    change(pair, on_peer_loss="stop")
    restart(pair.beta)
    restart(pair.alpha)
    wait_in_force(pair, "on_peer_loss", "stop")
    pair.wait_in_sync(pair.alpha)
    pair.beta.kill_daemon()
    pair.wait_state(pair.alpha, "broken")
    change(pair, on_peer_loss="continue")
    restart(pair.alpha)
    wait_in_force(pair, "on_peer_loss", "continue")
    write(pair.alpha, b"x" * 4096)
    pair.beta.start()
    pair.wait_in_sync(pair.alpha)
    pair.assert_replicas_equal()


def test_what_needs_a_new_engine_is_named_on_both_nodes_until_it_has_one(pair):
    change(pair, disk_timeout="9s")
    restart(pair.beta)
    restart(pair.alpha)
    pair.wait_event(pair.alpha, "settings-pending")
    pair.wait_in_sync(pair.alpha)
    entry = pending(pair.alpha)["disk_timeout"]
    assert (entry["engine"], entry["config"], entry["needs"]) == ("0ms", "9000ms", "restart-engine")
    for node in pair.nodes:
        pair.wait(lambda at=node: STEP in at.ctl("status", "r0").out, f"{STEP} on {node.name}")
        checked = node.ctl("check", check=False)
        assert checked.code == 1 and STEP in checked.out and "no problems" not in checked.out
        answer = node.ctl("check", "--json", check=False).json
        assert [entry["same_config"] for entry in answer["nodes"]
                if entry["node"] == "alpha"] == [False]
    pair.alpha.ctl("restart-engine", "r0")
    wait_settled(pair, pair.alpha)
    pair.wait(lambda: STEP not in pair.beta.ctl("status", "r0").out, "beta to see that")


def test_what_the_file_says_and_mirrord_has_not_read_is_named(pair):
    change(pair, peer_timeout="9s")
    for node in pair.nodes:
        checked = node.ctl("check", check=False)
        assert checked.code == 1 and "peer_timeout" in checked.out and "9000ms" in checked.out
        assert "mirrorctl reload" in checked.out
        assert "mirrorctl reload" in node.ctl("status", "r0").out
    change(pair, peer_timeout="soon")
    answer = control.ask(pair.alpha.run_dir / "mirrord.sock", {"request": "check"})
    assert any("can't use the current file" in words for words in answer["problems"]), answer["problems"]


def edit_backing(cluster, path):
    """The next maintenance window's path for alpha's replica."""
    path.touch(0o600)
    path.write_bytes(b"\0" * 64 * 1024 * 1024)
    change(cluster, **{"backing.alpha": str(path)})


def test_an_engine_that_dies_opens_what_mirrord_knows_and_not_what_the_file_says(pair):
    write(pair.alpha, b"a" * 4096)
    old = pair.backing(pair.alpha)
    edit_backing(pair, pair.directory / "next.img")
    pid = pair.alpha.engine_pid()
    pair.alpha.kill_engine()
    pair.wait(lambda: pair.alpha.engine_pid() not in (None, pid), "another engine")
    pair.wait_in_sync(pair.alpha)
    assert read(pair.alpha, 4096) == b"a" * 4096
    assert str(old) in open_files(pair.alpha.engine_pid())


@pytest.mark.parametrize("how", ["engine dies", "new engine", "node dies"])
def test_a_backing_that_is_edited_waits_until_the_volume_is_demoted(pair, how):
    write(pair.alpha, b"a" * 4096)
    old = pair.backing(pair.alpha)
    edit_backing(pair, pair.directory / "next.img")
    restart(pair.beta)
    if how == "node dies":
        pair.alpha.kill_everything()
        pair.resume(pair.alpha)
    else:
        restart(pair.alpha)
    pid = pair.alpha.engine_pid()
    if how == "engine dies":
        pair.alpha.kill_engine()
        pair.wait(lambda: pair.alpha.engine_pid() not in (None, pid), "another engine")
    elif how == "new engine":
        pair.alpha.ctl("restart-engine", "r0")
    pair.wait_in_sync(pair.alpha)
    assert read(pair.alpha, 4096) == b"a" * 4096
    assert str(old) in open_files(pair.alpha.engine_pid())
    entry = pending(pair.alpha)["backing.alpha"]
    assert (entry["engine"], entry["needs"]) == (str(old), "demote")
    for node in pair.nodes:
        pair.wait(lambda at=node: "mirrorctl switch r0" in at.ctl("status", "r0").out, "the step")
        assert str(old) in node.ctl("check", check=False).out
    pair.alpha.ctl("switch", "r0")
    pair.wait_in_sync(pair.beta)
    assert read(pair.beta, 4096) == b"a" * 4096
    assert pair.alpha.status()["replica"]["backing"] == str(old)  # until mirrord is restarted
    assert "restart mirrord" in pair.alpha.ctl("status", "r0").out


@pytest.mark.parametrize("which", ["run_dir", "state_dir", "both"])
def test_a_volume_in_use_stays_in_its_directories(pair, which):
    write(pair.alpha, b"a" * 4096)
    engine, old_run, old_state = pair.alpha.engine_pid(), pair.alpha.run_dir, pair.alpha.state_dir
    pair.alpha.stop()
    if which in ("run_dir", "both"):
        pair.alpha.run_dir = pair.alpha.directory / "run2"
    if which in ("state_dir", "both"):
        pair.alpha.state_dir = pair.alpha.directory / "state2"
    pair.write_config()
    pair.alpha.start()
    status = pair.alpha.status()
    assert status["role"] == "active", status
    assert {entry["setting"] for entry in status["settings_pending"]} == \
        {"run_dir", "state_dir"} - ({"run_dir"} if which == "state_dir" else set()) \
        - ({"state_dir"} if which == "run_dir" else set())
    processes.kill_hard(engine)
    pair.alpha.run_dir, new_run = old_run, pair.alpha.run_dir
    pair.wait(lambda: pair.alpha.engine_pid() not in (None, engine), "another engine")
    pair.wait_in_sync(pair.alpha)
    assert read(pair.alpha, 4096) == b"a" * 4096
    assert str(old_state / "r0" / "meta") in open_files(pair.alpha.engine_pid())
    pair.alpha.run_dir = new_run
    pair.alpha.ctl("demote", "r0")


def without(cluster, volume):
    keys = cluster.volumes.pop(volume)
    cluster.write_config()
    return keys


def test_a_volume_that_is_taken_out_of_the_file_is_looked_after_until_it_is_demoted(make_cluster):
    cluster = make_cluster(volumes={"r0": {}, "r1": {}})
    cluster.start_active()
    cluster.create("r1")
    cluster.alpha.ctl("promote", "r1")
    cluster.wait_in_sync(cluster.alpha, "r1")
    write(cluster.alpha, b"a" * 4096, "r1")
    keys = without(cluster, "r1")
    restart(cluster.beta)
    restart(cluster.alpha)
    for words in (cluster.alpha.ctl("status", check=False).out,
                  cluster.alpha.ctl("status", "r1", check=False).out,
                  cluster.alpha.ctl("check", check=False).out):
        assert "r1 is not in the configuration" in words and "mirrorctl demote r1" in words
    assert cluster.alpha.ctl("check", check=False).code == 1
    cluster.wait_event(cluster.alpha, "settings-pending")
    engine = cluster.alpha.engine_pid("r1")
    cluster.alpha.kill_engine("r1")
    cluster.wait(lambda: cluster.alpha.engine_pid("r1") not in (None, engine), "another engine")
    assert read(cluster.alpha, 4096, "r1") == b"a" * 4096
    for verb in (["switch", "r1"], ["resize", "r1"], ["create", "r1"]):
        refused = cluster.alpha.ctl(*verb, check=False)
        assert refused.code != 0, refused
    cluster.alpha.ctl("demote", "r1")
    assert not cluster.alpha.engine_pid("r1")
    refused = cluster.alpha.ctl("promote", "r1", check=False)
    assert refused.code == 1 and "not in the configuration" in refused.err
    restart(cluster.alpha)
    assert "r1" not in cluster.alpha.ctl("status", check=False).out
    assert "no problems" in cluster.alpha.ctl("check").out
    cluster.volumes["r1"] = keys
    cluster.write_config()
    restart(cluster.beta)
    restart(cluster.alpha)
    cluster.alpha.ctl("promote", "r1")
    cluster.wait_in_sync(cluster.alpha, "r1")
    assert read(cluster.alpha, 4096, "r1") == b"a" * 4096


def test_a_volume_that_is_renamed_in_use_keeps_its_backing_from_the_new_name(pair):
    write(pair.alpha, b"a" * 4096)
    pair.volumes["r9"] = pair.volumes.pop("r0")
    pair.write_config()
    restart(pair.beta)
    restart(pair.alpha)
    assert "r0 is not in the configuration" in pair.alpha.ctl("check", check=False).out
    refused = pair.alpha.ctl("create", "r9", check=False)
    assert refused.code != 0
    assert read(pair.alpha, 4096) == b"a" * 4096


def test_a_node_that_is_renamed_names_the_engine_that_nobody_looks_after(pair):
    engine = pair.alpha.engine_pid()
    text = pair.config_text()
    pair.alpha.stop()
    pair.alpha.config.write_text(
        text.replace("[node.alpha]", "[node.gamma]").replace("backing.alpha", "backing.gamma"),
        encoding="utf-8")
    pair.alpha.name = "gamma"
    pair.alpha.start()
    for words in (pair.alpha.ctl("status", check=False).out,
                  pair.alpha.ctl("check", check=False).out):
        assert f"pid {engine}" in words and "name the node alpha again" in words, words
    assert pair.alpha.ctl("promote", "r0", check=False).code != 0
    pair.alpha.stop()
    pair.alpha.name = "alpha"
    pair.write_config()
    pair.alpha.start()
    pair.wait_in_sync(pair.alpha)
    assert pair.alpha.engine_pid() == engine


def test_an_engine_without_its_pid_file_is_found(pair):
    engine = pair.alpha.engine_pid()
    pair.alpha.stop()
    (pair.alpha.run_dir / "r0.pid").unlink()
    pair.alpha.start()
    pair.wait_in_sync(pair.alpha)
    assert pair.alpha.status()["role"] == "active"
    pair.alpha.ctl("demote", "r0")
    pair.wait(lambda: not pathlib.Path(f"/proc/{engine}/fd").exists(), "the engine to end")


def test_what_an_engine_is_given_is_for_its_own_user_alone(pair):
    given = pair.alpha.run_dir / "r0.settings"
    assert given.stat().st_mode & 0o777 == 0o600
    assert f"config={given}" in \
        pathlib.Path(f"/proc/{pair.alpha.engine_pid()}/cmdline").read_text().split("\0")
    pair.alpha.ctl("demote", "r0")
    assert not given.exists()
