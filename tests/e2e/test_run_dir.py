# SPDX-License-Identifier: BSD-3-Clause
"""What lies in RUN_DIR: removed under the running processes, kept over a reboot; and signals that end nothing."""

import shutil
import signal

import nbd
import pytest

from lib import processes

MIB = 1024 * 1024


def clean(node):
    for path in node.run_dir.iterdir():
        path.unlink()


def connected(path):
    handle = nbd.NBD()
    handle.connect_unix(str(path))
    return handle


@pytest.mark.door
@pytest.mark.parametrize("while_away", [False, True])
def test_a_cleaned_run_dir_costs_no_volume_and_no_connection(cluster, make_load, while_away):
    alpha = cluster.alpha
    load = make_load([alpha.socket()], count=1024).start()
    load.wait_progress()
    engine = alpha.engine_pid()
    if while_away:
        alpha.stop()
    clean(alpha)
    if while_away:
        alpha.start()
    cluster.wait_event(alpha, "run-dir-cleaned", count=1 if while_away else 2)
    cluster.wait(lambda: alpha.answers() and alpha.engine_pid() == engine, "the engine to be found")
    cluster.wait_in_sync(alpha)
    assert alpha.status()["role"] == "active"
    load.wait_progress()
    load.stop()
    assert not load.errors and load.disconnects == 0
    load.verify_volume(alpha.socket())  # a new client finds it, too
    alpha.ctl("restart-engine", "r0")
    assert alpha.engine_pid() != engine
    assert alpha.socket().is_socket() and not alpha.socket().is_symlink()
    load.verify_volume(alpha.socket())
    cluster.wait_in_sync(alpha)


def test_a_run_dir_that_was_removed_is_made_again(cluster):
    engine = cluster.alpha.engine_pid()
    shutil.rmtree(cluster.alpha.run_dir)
    cluster.wait(lambda: cluster.alpha.answers() and cluster.alpha.engine_pid() == engine,
                 "everything to be there again")
    cluster.alpha.ctl("demote", "r0")
    cluster.beta.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.beta)
    assert cluster.alpha.is_running() and (cluster.alpha.run_dir / "mirrord.lock").exists()


def test_a_lost_pid_file_asks_for_nothing_that_is_not_needed(cluster):
    (cluster.alpha.run_dir / "r0.pid").unlink()
    event = cluster.wait_event(cluster.alpha, "run-dir-cleaned")[-1]
    assert cluster.alpha.engine_pid() and "restart-engine" not in event["remedy"], event
    cluster.alpha.control_socket().unlink()
    event = cluster.wait_event(cluster.alpha, "run-dir-cleaned", count=2)[-1]
    assert "restart-engine r0" in event["remedy"], event


def test_marks_of_this_boot_are_written_again(cluster):
    clean(cluster.alpha)
    marks = [cluster.alpha.run_dir / f"r0.{kind}" for kind in ("active", "boot")]
    cluster.wait(lambda: all(mark.exists() for mark in marks), "the marks")
    # They count: the engine dies while mirrord is away, and the volume goes on by itself.
    cluster.alpha.kill_everything()
    cluster.resume(cluster.alpha)
    cluster.wait_in_sync(cluster.alpha)


@pytest.mark.parametrize("waiting", [False, True])
def test_a_mark_of_an_earlier_boot_makes_nobody_active(cluster, waiting):
    alpha, beta = cluster.nodes
    mark = alpha.run_dir / "r0.active"
    alpha.kill_everything()
    if waiting:
        beta.kill_everything()
        alpha.start()
        cluster.wait_event(alpha, "resume-waits")
        alpha.kill_everything()
        beta.start()
    lines = mark.read_text(encoding="ascii").splitlines()
    mark.write_text("\n".join(["00000000-0000-4000-8000-000000000000", *lines[1:], ""]),
                    encoding="ascii")
    alpha.start()
    cluster.wait_event(alpha, "not-resumed")
    cluster.wait(lambda: alpha.peer()["link"] != "down", "the nodes to see each other")
    assert cluster.active() is None and alpha.status()["role"] == "standby"
    alpha.ctl("promote", "r0")
    cluster.wait_in_sync(alpha)


@pytest.mark.parametrize("harmless", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_to_all_processes_of_the_service_ends_none(cluster, harmless):
    alpha = cluster.alpha
    engine = alpha.engine_pid()
    client = connected(alpha.control_socket())
    processes.send(alpha.daemon.pid, harmless)
    processes.send(engine, harmless)
    what = "reading the configuration again" if harmless == signal.SIGHUP else "is ignored"
    line = f"(SIG{harmless.name[3:]}){':' if harmless == signal.SIGHUP else ''} {what}"
    cluster.wait(lambda: line in alpha.log_tail(), "the line in the log")
    client.pwrite(b"x" * 512, 0)
    client.shutdown()
    assert alpha.is_running() and alpha.engine_pid() == engine
    assert alpha.stop() == 0
    assert "SIGTERM" in alpha.events("daemon-stopped")[-1]["cause"]
