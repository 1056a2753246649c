# SPDX-License-Identifier: BSD-3-Clause
"""What the processes have given up, and who may open whose sockets."""

import ctypes
import os
import pathlib
import stat
import subprocess

import nbd
import pytest

from lib import environment, tools, users

NONE = "0" * 16
IPC_LOCK = f"{1 << 14:016x}"
# linux/capability.h: AUDIT_READ, BLOCK_SUSPEND, LEASE, MAC_ADMIN, MAC_OVERRIDE, SYS_BOOT, SYS_PACCT,
# SYS_TIME, SYS_TTY_CONFIG, SYSLOG, WAKE_ALARM
NEEDLESS = sum(1 << number for number in (37, 36, 28, 33, 32, 22, 20, 25, 26, 34, 35))
CAN_TELL = pathlib.Path("/proc/self/status").read_text(encoding="ascii").count("Seccomp:") == 1


def status_of(path):
    lines = (path / "status").read_text(encoding="utf-8").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def has_a_limit_of_locked_memory(process):
    limits = (process / "limits").read_text(encoding="ascii")
    [line] = [line for line in limits.splitlines() if line.startswith("Max locked memory")]
    return line.split()[3] != "unlimited"


def assert_engine_has_given_up(node):
    """Every thread, those that serve clients too."""
    process = pathlib.Path(f"/proc/{node.engine_pid()}")
    tasks = list((process / "task").iterdir())
    kept = {NONE, IPC_LOCK if has_a_limit_of_locked_memory(process) else NONE}
    assert len(tasks) > 3, tasks
    for task in tasks:
        try:
            status = status_of(task)
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has ended since
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), (task, status)
        assert {status["CapEff"], status["CapPrm"]} <= kept, (task, status)
        assert {status["CapInh"], status["CapAmb"]} == {NONE}, (task, status)
        if os.geteuid() == 0 and not node.prefix:
            assert status["CapBnd"] == NONE, (task, status)
    assert "could not give up" not in node.log_tail(1000)


def mode_of(path):
    found = os.stat(path)
    assert stat.S_ISSOCK(found.st_mode)
    return stat.S_IMODE(found.st_mode)


@pytest.mark.door
@pytest.mark.skipif(not CAN_TELL, reason="this kernel has no seccomp")
def test_an_engine_gives_up_its_privileges_each_time_it_starts(cluster, make_load):
    load = make_load([node.socket() for node in cluster.nodes], count=512).start()
    load.wait_progress()
    assert_engine_has_given_up(cluster.alpha)
    cluster.alpha.ctl("restart-engine", "r0", "--disconnect-clients")
    load.wait_progress()
    assert_engine_has_given_up(cluster.alpha)
    cluster.alpha.ctl("switch", "r0", "--disconnect-clients")
    load.wait_progress()
    assert_engine_has_given_up(cluster.beta)
    load.stop()
    load.verify_volume(cluster.beta.socket())
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def has_landlock():
    create_ruleset, version = 444, 1
    return ctypes.CDLL(None).syscall(create_ruleset, None, 0, version) > 0


@pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")
@pytest.mark.skipif(environment.sanitizer() != "",
                    reason="a sanitizer writes its reports where it likes")
def test_an_engine_writes_in_its_folders_alone(cluster, tmp_path):
    """A link leads out of STATE_DIR, as whoever took the engine over would make it."""
    cluster.alpha.ctl("verify", "r0", "--wait", "--rate", "0")
    inside = cluster.alpha.state_dir / "r0"
    assert (inside / "verify.json").exists()
    assert "can't be saved" not in cluster.alpha.log_tail(1000)
    outside = tmp_path / "r0"
    outside.mkdir(mode=0o700)
    kept = inside.rename(inside.with_name("kept"))
    inside.symlink_to(outside)
    cluster.alpha.ctl("verify", "r0", "--wait", "--rate", "0")
    inside.unlink()
    kept.rename(inside)
    assert list(outside.iterdir()) == []
    cluster.wait(lambda: "can't be saved" in cluster.alpha.log_tail(1000), "the log to say so")
    cluster.alpha.ctl("verify", "r0", "--wait", "--rate", "0")
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_mirrord_gives_up_what_no_hook_needs(cluster):
    status = status_of(pathlib.Path(f"/proc/{cluster.alpha.daemon.pid}"))
    for name in ("CapEff", "CapPrm", "CapInh"):
        assert not int(status[name], 16) & NEEDLESS, (name, status[name])
    if os.geteuid() == 0:
        assert not int(status["CapBnd"], 16) & NEEDLESS, status["CapBnd"]
        assert int(status["CapEff"], 16) & 1 << 21, "it needs CAP_SYS_ADMIN for devices and mounts"


def test_by_default_the_sockets_are_their_owners_alone(cluster):
    doors = [cluster.alpha.socket_at(door) for door in environment.DOORS]
    for path in (*doors, cluster.alpha.run_dir / "mirrord.sock"):
        assert mode_of(path) == 0o600, path
    cluster.alpha.kill_engine()
    cluster.wait(cluster.alpha.engine_pid, "the engine to be started again")
    cluster.wait_in_sync(cluster.alpha)
    for path in doors:
        assert mode_of(path) == 0o600, path


def test_members_of_io_group_may_use_the_volume_and_control_nothing(make_cluster):
    tools.require_tool("qemu-io", "nbdinfo")
    group = users.a_group()
    cluster = make_cluster({"r0": {"io_group": group.gr_name}})
    users.let_others_reach(cluster)
    cluster.start_active()
    for path in (cluster.alpha.directory, cluster.alpha.run_dir):
        assert os.stat(path).st_mode & 0o005, path
    doors = [cluster.alpha.socket_at(door) for door in environment.DOORS]
    for path in doors:
        assert mode_of(path) == 0o660 and os.stat(path).st_gid == group.gr_gid, path
    member = users.acting_as(users.STRANGER, group.gr_gid)
    writes = [["qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 64k", f"nbd+unix:///?socket={path}"]
              for path in doors]
    for write in writes:
        refused = tools.run(*users.acting_as(users.STRANGER), *write, check=False)
        assert refused.returncode != 0 and "Permission denied" in refused.stderr
        tools.run(*member, *write)
    for path in doors:
        control = tools.run(*member, "nbdinfo", f"nbd+unix:///control?socket={path}", check=False)
        assert control.returncode != 0, control.stdout
    cluster.alpha.ctl_prefix = member
    assert cluster.alpha.ctl("status", check=False).code == 3, "mirrord's socket is not for them"
    cluster.alpha.ctl_prefix = []
    cluster.alpha.ctl("restart-engine", "r0")
    for path, write in zip(doors, writes):
        assert mode_of(path) == 0o660 and os.stat(path).st_gid == group.gr_gid, path
        tools.run(*member, *write)
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


OPEN_UNTIL_REFUSED = """
import sys, nbd
clients = []
try:
    while len(clients) < 40:
        client = nbd.NBD()
        client.connect_unix(sys.argv[1])
        clients.append(client)
except nbd.Error:
    pass
print(len(clients), flush=True)
sys.stdin.readline()
clients.pop().shutdown()
for _ in range(1000):
    client = nbd.NBD()
    try:
        client.connect_unix(sys.argv[1])
        break
    except nbd.Error:
        pass
client.pwrite(b"again", 4096)
print(client.pread(5, 4096).decode(), flush=True)
sys.stdin.readline()
"""


def test_members_of_io_group_take_so_many_places_and_leave_root_its_own(make_cluster):
    group = users.a_group()
    cluster = make_cluster({"r0": {"io_group": group.gr_name}})
    users.let_others_reach(cluster)
    cluster.start_active()
    member = users.acting_as(users.STRANGER, group.gr_gid)
    with subprocess.Popen([*member, "/usr/bin/python3", "-c", OPEN_UNTIL_REFUSED,
                           str(cluster.alpha.socket_at("nbdkit"))],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout.readline() == "16\n"
        # Here and below: the log is written by a thread of its own.
        cluster.wait(lambda: cluster.alpha.log_tail(1000).count("no more are accepted") == 1,
                     "the log to say it once")
        handle = nbd.NBD()
        handle.connect_unix(str(cluster.alpha.socket_at("nbdkit")))
        handle.pwrite(b"root's", 0)
        handle.shutdown()
        crowd.stdin.write("one goes\n")
        crowd.stdin.flush()
        assert crowd.stdout.readline() == "again\n", "a place that was left is taken"
        crowd.communicate("all go\n", timeout=30)
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_group_that_is_not_there_is_named_and_keeps_the_socket_its_owners(make_cluster):
    cluster = make_cluster({"r0": {"io_group": "mirrordisk-nobody-has-this"}}).start_active()
    for door in environment.DOORS:
        assert mode_of(cluster.alpha.socket_at(door)) == 0o600, door
    cluster.wait(lambda: "there is no group mirrordisk-nobody-has-this"
                 in cluster.alpha.log_tail(1000), "the log to name the group")
    checked = cluster.alpha.ctl("check", check=False)
    assert checked.code == 1 and "groupadd" in checked.out + checked.err, str(checked)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_a_volume_lives_without_root(make_cluster):
    tools.require_tool("qemu-io", "nbdcopy")
    group = users.a_group()
    cluster = make_cluster({"r0": {"io_group": group.gr_name}})
    prefix = users.hand_over(cluster, group.gr_gid)
    cluster.start_active()
    alpha, beta = cluster.nodes
    image = alpha.directory / "image"
    image.write_bytes(os.urandom(4 << 20))
    os.chown(image, users.NOBODY, users.NOBODY)
    tools.run(*prefix, "qemu-io", "-f", "raw", "-c", "write -P 0x11 8M 1M", "-c", "flush", alpha.uri())
    alpha.ctl("switch", "r0")
    tools.run(*prefix, "nbdcopy", "--flush", str(image), beta.uri())
    alpha.kill_everything()
    tools.run(*prefix, "qemu-io", "-f", "raw", "-c", "write -P 0x22 32M 2M", beta.uri())
    alpha.start()
    cluster.wait_in_sync(beta)
    tools.run(*prefix, "qemu-io", "-f", "raw", "-c", "read -P 0x11 8M 1M",
              "-c", "read -P 0x22 32M 2M", beta.uri())
    verified = beta.ctl("verify", "r0", "--wait")
    assert verified.code == 0, str(verified)
    beta.ctl("restart-engine", "r0")
    for node in cluster.nodes:
        owner = status_of(pathlib.Path(f"/proc/{node.daemon.pid}"))["Uid"].split()
        assert set(owner) == {str(users.NOBODY)}, owner
    assert_engine_has_given_up(beta)
    assert mode_of(beta.socket()) == 0o660 and os.stat(beta.socket()).st_gid == group.gr_gid
    stranger = users.acting_as(users.STRANGER)
    assert tools.run(*stranger, "nbdinfo", beta.uri(), check=False).returncode != 0
    tools.run(*users.acting_as(users.STRANGER, group.gr_gid), "nbdinfo", beta.uri())
    beta.ctl_prefix = stranger
    assert beta.ctl("status", check=False).code == 3, "mirrord's socket is its owner's"
    beta.ctl_prefix = prefix
    assert beta.ctl("check").code == 0
    cluster.wait_in_sync(beta)
    beta.ctl("demote", "r0")
    assert backing_starts_with(cluster, image)
    cluster.assert_replicas_equal()


def backing_starts_with(cluster, image):
    content = image.read_bytes()
    with open(cluster.backing(cluster.alpha), "rb") as backing:
        return backing.read(len(content)) == content
