# SPDX-License-Identifier: BSD-3-Clause
"""A user of this machine without rights gets nothing and hinders nothing: locks, disks that are
files, the files that decide what mirrordisk does, and what it is led to by links."""

import os
import shutil
import subprocess

import pytest

from lib import credentials, environment, processes, tools
from lib.users import NOBODY, STRANGER, acting_as, hand_over, let_others_reach
from lib.waiting import wait_for

MIB = 1024 * 1024


def problems(node):
    return "\n".join(node.ctl("check", "--json", check=False).json["problems"])


def refuses_to_start(node):
    """What it says then."""
    node.launch()
    assert node.daemon.wait(20 * environment.slowness()) == 1, node.log_tail()
    node.daemon = None
    return node.log_tail(3)


@pytest.fixture(name="open_cluster")
def _open_cluster(make_cluster):
    """Everybody comes as far as the modes of the nodes' own directories let him."""
    tools.require_root("to become another user")
    cluster = make_cluster()
    let_others_reach(cluster)
    return cluster


# -- locks -----------------------------------------------------------------------------------------

def try_to_lock(path):
    """A stranger who waits for the lock, where he can open the file."""
    return subprocess.Popen([*acting_as(STRANGER), "flock", str(path), "sleep", "60"],
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.parametrize("before", ["new", "of an earlier version"])
def test_nobody_else_can_lock_mirrord_out(open_cluster, before):
    cluster, alpha = open_cluster, open_cluster.alpha
    lock = alpha.run_dir / "mirrord.lock"
    if before != "new":
        lock.write_text("1234\n")
        lock.chmod(0o644)
    cluster.start_active()
    assert lock.stat().st_mode & 0o777 == 0o600
    stranger = try_to_lock(lock)
    try:
        assert stranger.wait(20) != 0 and "Permission denied" in stranger.stderr.read()
        alpha.stop()
        alpha.start()
        cluster.wait_in_sync(alpha)
    finally:
        stranger.kill()
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_who_holds_the_lock_is_named_and_not_who_held_it_last(make_cluster):
    alpha = make_cluster().alpha
    alpha.start()
    alpha.stop()
    lock = alpha.run_dir / "mirrord.lock"
    holder = subprocess.Popen(["flock", str(lock), "sleep", "60"], start_new_session=True)
    try:
        wait_for(lambda: subprocess.run(["flock", "-n", str(lock), "true"], check=False).returncode,
                 "the lock to be held")
        said = refuses_to_start(alpha)
        assert f"process {holder.pid} (flock, user 0)" in said, said
        assert f"kill {holder.pid}" in said, said
    finally:
        os.killpg(holder.pid, 9)
        holder.wait()
    alpha.start()
    pid = alpha.daemon.pid
    first, alpha.daemon = alpha.daemon, None
    try:
        assert f"mirrord is already running in {alpha.run_dir} (pid {pid})" in refuses_to_start(alpha)
    finally:
        alpha.daemon = first


# -- backings --------------------------------------------------------------------------------------

@pytest.mark.parametrize("which", ["alpha", "beta"])
@pytest.mark.parametrize("fault, remedy", [(0o664, "chmod 600"), (0o620, "chmod 600"),
                                           ("a stranger's", "chown root"),
                                           ("in a folder for all", "chmod go-w")])
def test_a_file_that_others_can_use_is_no_backing_unless_that_is_accepted(open_cluster, which, fault,
                                                                          remedy):
    cluster = open_cluster
    node = getattr(cluster, which)
    path = node.directory / "disks" / "r0.img"
    path.parent.mkdir()
    cluster.volumes["r0"][f"backing.{which}"] = str(path)
    cluster.write_config()
    cluster.start()
    path.touch(0o600)
    os.truncate(path, 64 * MIB)
    if isinstance(fault, int):
        path.chmod(fault)
    elif fault == "a stranger's":
        os.chown(path, STRANGER, STRANGER)
    else:
        path.parent.chmod(0o777)
    outcome = cluster.alpha.ctl("create", "r0", check=False)
    assert outcome.code == 1, str(outcome)
    for words in (which, str(path.parent), remedy, "--accept-mode"):
        assert words in outcome.err, str(outcome)
    assert not any(each.meta().exists() for each in cluster.nodes)
    cluster.alpha.ctl("create", "r0", "--accept-mode")
    assert str(path.parent) in problems(node) and remedy in problems(node)
    path.parent.chmod(0o755)
    os.chown(path, 0, 0)
    path.chmod(0o600)
    assert not problems(node)


def readable_backings(cluster):
    paths = []
    for node in cluster.nodes:
        path = cluster.backing(node)
        path.touch()
        path.chmod(0o644)
        os.truncate(path, 64 * MIB)
        paths.append(path)
    return paths


def test_an_empty_file_that_others_can_read_is_made_its_owners_alone(open_cluster):
    cluster = open_cluster.start()
    paths = readable_backings(cluster)
    plan = cluster.alpha.ctl("create", "r0", "--dry-run").out
    assert f"make {paths[0]} readable by its owner only" in plan, plan
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o644, 0o644]
    cluster.alpha.ctl("create", "r0")
    assert [path.stat().st_mode & 0o777 for path in paths] == [0o600, 0o600]
    assert not any(problems(node) for node in cluster.nodes)


def test_a_file_with_data_that_others_may_have_read_is_refused_unless_that_is_accepted(open_cluster):
    cluster = open_cluster.start()
    path = cluster.backing(cluster.alpha)
    path.write_bytes(b"data that others may have read")
    path.chmod(0o644)
    os.truncate(path, 64 * MIB)
    outcome = cluster.alpha.ctl("create", "r0", check=False)
    assert outcome.code == 1 and "chmod 600" in outcome.err and "--accept-mode" in outcome.err
    assert path.stat().st_mode & 0o777 == 0o644
    cluster.alpha.ctl("create", "r0", "--accept-mode")
    assert path.stat().st_mode & 0o777 == 0o644
    assert "chmod 600" in problems(cluster.alpha)


def test_a_file_that_another_program_has_open_keeps_its_mode_and_is_refused(open_cluster):
    cluster = open_cluster.start()
    paths = readable_backings(cluster)
    with open(paths[0], "rb"):
        outcome = cluster.alpha.ctl("create", "r0", check=False)
    assert outcome.code == 1 and "can be read by others" in outcome.err, str(outcome)
    assert paths[0].stat().st_mode & 0o777 == 0o644
    assert not any(node.meta().exists() for node in cluster.nodes)


@pytest.mark.parametrize("options, remedy", [(["umask=000"], None),
                                             (["allow_other", "umask=000"], "chmod 600")])
def test_a_mount_that_only_its_user_reaches_counts_and_not_the_modes_in_it(open_cluster, fuse_backing,
                                                                          options, remedy):
    cluster = open_cluster
    disk = fuse_backing(cluster, cluster.alpha, options=options)
    assert disk.path.stat().st_mode & 0o777 == 0o777
    cluster.start()
    outcome = cluster.alpha.ctl("create", "r0", check=remedy is None)
    assert (remedy or "") in outcome.err, str(outcome)
    assert (outcome.code == 0) == (remedy is None), str(outcome)


def test_a_backing_that_create_makes_is_for_nobody_else(open_cluster):
    cluster = open_cluster.start_active()
    for node in cluster.nodes:
        assert cluster.backing(node).stat().st_mode & 0o777 == 0o600
        reading = subprocess.run([*acting_as(STRANGER), "head", "-c1", str(cluster.backing(node))],
                                 capture_output=True, text=True, check=False)
        assert reading.returncode != 0 and "Permission denied" in reading.stderr
        assert not problems(node)


# -- what decides ----------------------------------------------------------------------------------

def test_a_configuration_that_others_can_change_is_refused_with_the_next_step(make_cluster):
    alpha = make_cluster().alpha
    for path, bits, usual in ((alpha.config, 0o666, 0o644), (alpha.directory, 0o777, 0o755)):
        path.chmod(bits)
        for said in (refuses_to_start(alpha), alpha.ctl("check", check=False).err):
            assert f"{path} can be written by users other than its owner" in said, said
            assert f"chmod go-w {path}" in said, said
        path.chmod(usual)
    tools.require_root("to give a file away")
    os.chown(alpha.config, STRANGER, STRANGER)
    assert f"chown root {alpha.config}" in refuses_to_start(alpha)
    os.chown(alpha.config, 0, 0)
    alpha.start()


def test_a_configuration_without_end_is_not_read(make_cluster):
    alpha = make_cluster().alpha
    for path in ("/dev/zero", alpha.directory / "large"):
        if path != "/dev/zero":
            path.write_text("# a comment\n" * 100000)
        outcome = alpha.ctl("--config", path, "check", check=False)
        assert outcome.code != 0 and str(path) in outcome.err, str(outcome)


@pytest.mark.parametrize("which", ["run", "state"])
def test_a_folder_that_somebody_else_made_is_not_used(open_cluster, which):
    alpha = open_cluster.alpha
    folder = getattr(alpha, f"{which}_dir")
    victim = open_cluster.directory / "victim"
    victim.write_text("precious\n")
    os.chown(folder, STRANGER, STRANGER)
    for name in ("mirrord.lock", "r0.boot", "r0.active", "events.jsonl"):
        (folder / name).symlink_to(victim)
    said = refuses_to_start(alpha)
    assert f"{which}_dir" in said and f"belongs to user {STRANGER}" in said, said
    assert victim.read_text() == "precious\n"
    os.chown(folder, 0, 0)
    folder.chmod(0o777)
    assert f"chmod go-w {folder}" in refuses_to_start(alpha)
    folder.chmod(0o755)
    if which == "run":
        assert "mirrord.lock is a symbolic link" in refuses_to_start(alpha)
    else:
        alpha.start()
    assert victim.read_text() == "precious\n"


@pytest.mark.parametrize("which", ["run", "state"])
def test_an_empty_folder_with_the_sticky_bit_is_made_its_owners_alone(open_cluster, which):
    """As a tmpfs that is mounted without mode= has it."""
    alpha = open_cluster.alpha
    folder = getattr(alpha, f"{which}_dir")
    folder.chmod(0o1777)
    planted = folder / "anything"
    planted.write_text("")
    assert f"chmod go-w {folder}" in refuses_to_start(alpha)
    assert folder.stat().st_mode & 0o7777 == 0o1777
    planted.unlink()
    assert not list(folder.iterdir())
    alpha.start()
    assert folder.stat().st_mode & 0o7777 == 0o755
    assert f"{folder} could be written to by all users" in alpha.log_tail(1000)


def test_hooks_of_a_folder_that_somebody_else_can_exchange_are_not_run(open_cluster):
    cluster, alpha = open_cluster, open_cluster.alpha
    elsewhere = cluster.directory / "elsewhere"
    elsewhere.mkdir()
    hook = elsewhere / "10-hook"
    hook.write_text(f"#!/bin/sh\ntouch {cluster.directory}/ran\n")
    hook.chmod(0o755)
    cluster.start().create()
    folder = alpha.directory / "hooks.d"
    folder.symlink_to(elsewhere)
    assert f"{folder} is a symbolic link" in problems(alpha)
    alpha.ctl("promote", "r0")
    alpha.ctl("demote", "r0")
    assert not (cluster.directory / "ran").exists()
    folder.unlink()
    folder.mkdir()
    (folder / "10-hook").symlink_to(hook)
    elsewhere.chmod(0o777)
    assert f"{elsewhere} can be written by users other than its owner" in problems(alpha)
    alpha.ctl("promote", "r0")
    alpha.ctl("demote", "r0")
    assert not (cluster.directory / "ran").exists()
    elsewhere.chmod(0o755)
    assert not problems(alpha)
    alpha.ctl("promote", "r0")
    assert (cluster.directory / "ran").exists()


def test_a_node_without_root_believes_root_and_itself(make_cluster):
    cluster = make_cluster()
    hand_over(cluster)
    for node in cluster.nodes:
        os.chown(node.config, 0, 0)
    cluster.start_active()
    assert not problems(cluster.alpha)
    cluster.beta.stop()
    os.chown(cluster.beta.config, STRANGER, STRANGER)
    said = refuses_to_start(cluster.beta)
    assert f"belongs to user {STRANGER}" in said and f"chown {NOBODY}" in said, said


# -- certificates ----------------------------------------------------------------------------------

@pytest.mark.parametrize("name, spoil, remedy", [
    ("ca-cert.pem", lambda path: path.chmod(0o666), "chmod go-w"),
    ("beta-cert.pem", lambda path: os.chown(path, STRANGER, STRANGER), "chown root"),
    ("beta-key.pem", lambda path: os.chown(path, STRANGER, STRANGER), "chown root"),
    ("beta-key.pem", lambda path: path.chmod(0o640), "chmod 600"),
    ("beta-key.pem", lambda path: path.chmod(0o000), "chmod u+r"),
    (".", lambda path: path.chmod(0o777), "chmod go-w")])
def test_certificates_that_others_could_exchange_are_not_used(make_cluster, name, spoil, remedy):
    tools.require_root("to give files away")
    cluster = make_cluster(tls="x509").start()
    cluster.create()
    spoil(cluster.beta.directory / "x509" / name)
    found = problems(cluster.beta)
    assert "no peer can connect to beta" in found and remedy in found, found


def issue_list(cluster, *, expired):
    """An empty list of revoked certificates on both nodes."""
    for node in cluster.nodes:
        credentials.Authority.at(cluster.directory / "ca").revoke_none(
            node.directory / "x509" / "ca-crl.pem", expired=expired)


def test_a_list_of_revoked_certificates_that_is_out_of_date_is_a_problem(make_cluster):
    cluster = make_cluster(tls="x509").start()
    cluster.create()
    issue_list(cluster, expired=False)
    assert not problems(cluster.beta)
    issue_list(cluster, expired=True)
    assert "ca-crl.pem is out of date" in problems(cluster.beta)
    cluster.alpha.ctl("promote", "r0")  # by default nobody is kept out for it
    cluster.wait_in_sync(cluster.alpha)


def test_where_a_list_is_required_nobody_comes_in_without_one_in_force(make_cluster):
    cluster = make_cluster(tls="x509")
    cluster.write_config("crl_required = true\n" + cluster.config_text())
    cluster.start()
    for expired, words in ((None, "ca-crl.pem is missing"), (True, "out of date")):
        if expired is not None:
            issue_list(cluster, expired=expired)
        outcome = cluster.alpha.ctl("create", "r0", check=False)
        assert outcome.code != 0 and words in outcome.err, str(outcome)
        assert words in problems(cluster.beta)
    issue_list(cluster, expired=False)
    cluster.create()
    assert not problems(cluster.beta)


# -- modes, programs -------------------------------------------------------------------------------

def test_what_mirrord_writes_has_its_mode_whatever_the_folders_mode_is(cluster):
    for path in (cluster.alpha.state_dir / "events.jsonl", cluster.alpha.state_dir / "r0" / "rto.json",
                 cluster.alpha.state_dir / "events.cursor",
                 cluster.alpha.run_dir / "r0.settings", cluster.alpha.run_dir / "mirrord.lock"):
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_an_event_log_of_before_loses_its_readers(cluster):
    log = cluster.alpha.state_dir / "events.jsonl"
    log.chmod(0o644)
    cluster.alpha.ctl("demote", "r0")
    assert log.stat().st_mode & 0o777 == 0o600


def test_mirrords_own_path_and_a_tests_knobs_choose_no_program(make_cluster):
    if environment.sanitizer():
        pytest.skip("a build for tests believes the knob")
    cluster = make_cluster()
    folder = cluster.directory / "programs"
    folder.mkdir()
    for name in ("nbdkit", "sh"):
        fake = folder / name
        fake.write_text(f"#!/bin/bash\ntouch {folder}/ran\nexec {shutil.which(name)} \"$@\"\n")
        fake.chmod(0o755)
    cluster.alpha.extra_environment = {"PATH": f"{folder}:/usr/bin:/bin",
                                       "MIRRORDISK_ENGINE_PRELOAD": f"{folder}/none.so"}
    cluster.start_active()
    assert not (folder / "ran").exists()
    with open(f"/proc/{cluster.alpha.engine_pid()}/environ", "rb") as file:
        assert b"LD_PRELOAD" not in file.read()
    assert processes.read_pid(cluster.alpha.run_dir / "r0.pid", cluster.marker)
