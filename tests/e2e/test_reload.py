# SPDX-License-Identifier: BSD-3-Clause
"""The configuration is read again while mirrord runs: volumes come and go, settings change, and
nothing else notices."""

import signal

from lib import environment, processes
from lib.load import Load


def add_volume(cluster, name="r1", **keys):
    cluster.add_volume(name, **keys)
    cluster.write_config()


def reload_both(cluster):
    return [node.ctl("reload", "--json").json for node in cluster.nodes]


def changes(answer):
    """(volume, setting) → what it needs."""
    return {(change["volume"], change["setting"]): change["needs"] for change in answer["changes"]}


def names(node):
    return [volume["name"] for volume in node.ctl("status", "--json", check=False).json["volumes"]]


def assert_never_broke(cluster, node, volume="r0"):
    assert not node.events("mirror-break", volume), node.events("mirror-break", volume)
    assert cluster.alpha.status(volume)["state"] == "in-sync"


def test_a_volume_is_added_while_another_one_is_under_load(cluster):
    engine = cluster.alpha.engine_pid()
    load = Load([cluster.alpha.socket()], seed=7).start()
    add_volume(cluster)
    for answer in reload_both(cluster):
        assert changes(answer) == {("r1", None): "nothing"}
    assert names(cluster.alpha) == names(cluster.beta) == ["r0", "r1"]
    cluster.alpha.ctl("create", "r1")
    cluster.beta.ctl("promote", "r1")
    cluster.wait_in_sync(cluster.beta, "r1")
    load.wait_progress()
    load.stop().assert_undisturbed()
    assert cluster.alpha.engine_pid() == engine
    assert_never_broke(cluster, cluster.alpha)
    assert "no problems" in cluster.alpha.ctl("check").out
    cluster.alpha.ctl("demote", "r0")
    cluster.beta.ctl("demote", "r1")
    cluster.assert_replicas_equal()
    cluster.assert_replicas_equal("r1")


def test_a_volume_that_is_taken_out_goes_and_one_in_use_goes_when_it_is_demoted(cluster):
    add_volume(cluster)
    reload_both(cluster)
    cluster.alpha.ctl("create", "r1")
    without = {"r0": cluster.volumes["r0"]}
    every, cluster.volumes = cluster.volumes, without
    cluster.write_config()
    for answer in reload_both(cluster):
        assert changes(answer) == {("r1", None): "nothing"}
    assert names(cluster.alpha) == ["r0"]
    # It comes back with what it had.
    cluster.volumes = every
    cluster.write_config()
    reload_both(cluster)
    cluster.alpha.ctl("promote", "r1")
    cluster.wait_in_sync(cluster.alpha, "r1")
    engine = cluster.alpha.engine_pid("r1")
    cluster.volumes = without
    cluster.write_config()
    answer = cluster.alpha.ctl("reload", "--json").json
    assert changes(answer) == {("r1", None): "demote"}
    assert "mirrorctl demote r1, then mirrorctl reload" in answer["changes"][0]["text"]
    assert cluster.alpha.engine_pid("r1") == engine
    assert names(cluster.alpha) == ["r0", "r1"]
    # What is left is named each time, not forgotten with the first.
    assert changes(cluster.alpha.ctl("reload", "--json").json) == {("r1", None): "demote"}
    cluster.alpha.ctl("demote", "r1")
    for answer in reload_both(cluster):
        assert changes(answer) == {("r1", None): "nothing"}
    assert names(cluster.alpha) == names(cluster.beta) == ["r0"]
    assert_never_broke(cluster, cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_file_with_mistakes_is_refused_as_a_whole(cluster):
    alpha = cluster.alpha
    good = cluster.config_text()
    add_volume(cluster)
    cluster.write_config(cluster.config_text() + 'device = /dev/sdb\nsise = "1GiB"\n')
    done = alpha.ctl("reload", check=False)
    assert done.code == 1
    for words in ("quote it: device =", "'/dev/sdb' is not a device", "did you mean size?",
                  "the current configuration stays in force"):
        assert words in done.err, done.err
    processes.send(alpha.daemon.pid, signal.SIGHUP)
    refused = cluster.wait_event(alpha, "reload-refused")[0]
    assert "2 more mistakes" in refused["remedy"]
    # The log is written by a thread of its own.
    cluster.wait(lambda: "did you mean size?" in alpha.log_tail(), "the log to name the mistake")
    assert names_in_force(alpha) == ["r0"]
    cluster.write_config(good)
    assert_never_broke(cluster, alpha)
    assert alpha.ctl("reload", "--json").json["changes"] == []
    assert "no problems" in alpha.ctl("check").out
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def names_in_force(node):
    """What mirrord knows, when mirrorctl can't read the file."""
    held = node.config.read_text(encoding="utf-8")
    node.config.write_text(held.partition("[volume.r1]")[0], encoding="utf-8")
    try:
        return names(node)
    finally:
        node.config.write_text(held, encoding="utf-8")


def test_each_changed_setting_is_in_force_or_named_with_its_step(cluster):
    alpha = cluster.alpha
    load = Load([alpha.socket()], seed=8).start()
    cluster.volumes["r0"] |= {"verify_rate": "1MiB", "disk_timeout": "60s",
                              "peer_timeout": f"{int(3 * environment.slowness())}s"}
    cluster.write_config('control_group = "root"\n' + cluster.config_text())
    answer = alpha.ctl("reload", "--json").json
    assert changes(answer) == {(None, "control_group"): "restart-mirrord",
                               ("r0", "verify_rate"): "nothing",
                               ("r0", "peer_timeout"): "nothing",
                               ("r0", "disk_timeout"): "restart-engine"}
    # The standby's session goes on: nothing of it says where its data are.
    assert set(changes(cluster.beta.ctl("reload", "--json").json).values()) == {
        "restart-mirrord", "nothing"}
    cluster.wait_event(alpha, "settings-taken")
    pending = [entry["setting"] for entry in alpha.status()["settings_pending"]]
    assert pending == ["disk_timeout"]
    load.wait_progress()
    assert_never_broke(cluster, alpha)
    alpha.ctl("restart-engine", "r0", "--disconnect-clients")
    load.abandon()
    cluster.wait(lambda: alpha.status()["settings_pending"] == [], "the settings to be in force")
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_standby_gets_another_backing_without_a_restart(cluster):
    """As after a restart: it is the same replica, elsewhere."""
    alpha, beta = cluster.nodes
    moved = beta.directory / "moved.img"
    alpha.ctl("demote", "r0")
    cluster.backing(beta).rename(moved)
    cluster.volumes["r0"]["backing.beta"] = str(moved)
    cluster.write_config()
    reload_both(cluster)
    beta.ctl("promote", "r0")
    cluster.wait_in_sync(beta)
    assert f"{moved}" in beta.status()["replica"]["backing"]
    beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_volume_whose_engine_died_stays_where_it_is_until_it_is_demoted(cluster):
    """Its engine comes back in the middle of reloads that want it elsewhere."""
    alpha = cluster.alpha
    was = str(cluster.backing(alpha))
    cluster.volumes["r0"]["backing.alpha"] = str(alpha.directory / "elsewhere.img")
    cluster.write_config()
    cluster.beta.ctl("reload")
    processes.send(alpha.engine_pid(), signal.SIGKILL)
    for _ in range(5):
        done = alpha.ctl("reload", "--json", check=False)
        if done.code == 0:
            assert changes(done.json) == {("r0", "backing.alpha"): "demote"}
        else:
            assert "another operation" in done.out + done.err, done
    cluster.wait_event(alpha, "engine-restarted")
    cluster.wait_in_sync(alpha)
    assert was in alpha.status()["replica"]["backing"]
    assert not (alpha.directory / "elsewhere.img").exists()
    cluster.volumes["r0"]["backing.alpha"] = was
    cluster.write_config()
    reload_both(cluster)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_dry_run_says_what_a_reload_does_and_changes_nothing(cluster):
    add_volume(cluster)
    dry = cluster.alpha.ctl("reload", "--dry-run", "--json").json
    assert changes(dry) == {("r1", None): "nothing"}
    assert names(cluster.alpha) == ["r0"]
    assert changes(cluster.alpha.ctl("reload", "--json").json) == changes(dry)
    assert names(cluster.alpha) == ["r0", "r1"]
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_hangup_reads_the_configuration_again(cluster):
    add_volume(cluster)
    processes.send(cluster.alpha.daemon.pid, signal.SIGHUP)
    told = cluster.wait_event(cluster.alpha, "config-reloaded")[0]
    assert told["cause"] == "r1: added"
    assert names(cluster.alpha) == ["r0", "r1"]
    assert cluster.alpha.is_running()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
