# SPDX-License-Identifier: BSD-3-Clause
"""Hooks around a change of role: who runs, what they are told, and what their refusal means."""

import os
import pathlib
import signal
import textwrap
import threading
import time

import pytest

from lib import environment


class Hooks:
    """hooks.d of one node; every hook writes down that it was run, and with what."""

    def __init__(self, node):
        self.node = node
        self.folder = node.directory / "hooks.d"
        self.folder.mkdir(exist_ok=True)
        self.folder.chmod(0o755)
        self.record = node.directory / "hooks.record"

    def add(self, name, body="", mode=0o755):
        path = self.folder / name
        path.write_text("#!/bin/sh\n"
                        f'echo "{name} $1 $MIRRORDISK_REASON" >>{self.record}\n'
                        + textwrap.dedent(body), encoding="utf-8")
        path.chmod(mode)
        return path

    def ran(self):
        """What ran since the last call."""
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return lines


@pytest.fixture
def hooks(cluster):
    return {node.name: Hooks(node) for node in cluster.nodes}


def is_gone(pid):
    """Nothing runs under that number; a zombie does not either."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] == "Z"
    except OSError:
        return True


def test_hooks_run_on_both_nodes_in_the_order_of_their_names(cluster, hooks):
    for each in hooks.values():
        each.add("20-second")
        each.add("10-first.sh")
        each.add("30-off", mode=0o644)
        each.add("40-old.bak")
        each.add("50-edited~")
    cluster.beta.ctl("switch", "r0")
    assert hooks["alpha"].ran() == [
        f"{name} {occasion} switch" for occasion in ("before-demote", "after-demote")
        for name in ("10-first.sh", "20-second")]
    assert hooks["beta"].ran() == [
        f"{name} {occasion} switch" for occasion in ("before-promote", "after-promote")
        for name in ("10-first.sh", "20-second")]
    assert [event["severity"] for event in cluster.alpha.events("hook-ran")] == ["info"] * 4
    cluster.beta.ctl("demote", "r0")
    assert hooks["beta"].ran()[0] == "10-first.sh before-demote demote"
    cluster.assert_replicas_equal()


def test_a_hook_is_told_what_it_is_about_and_inherits_nothing(cluster, hooks):
    told = cluster.alpha.directory / "told"
    hooks["alpha"].add("10-tell", f"""\
        [ "$1" = before-demote ] || exit 0
        env >{told}; ls -l /proc/self/fd >>{told}; cat >>{told}; echo $# $1 >>{told}
        """)
    cluster.alpha.ctl("demote", "r0")
    lines = told.read_text(encoding="utf-8").splitlines()
    for line in ("MIRRORDISK_VOLUME=r0", "MIRRORDISK_NODE=alpha", "MIRRORDISK_PEER=beta",
                 "MIRRORDISK_DEVICE=", "MIRRORDISK_MOUNT=", "MIRRORDISK_OCCASION=before-demote",
                 "MIRRORDISK_REASON=demote", f"MIRRORDISK_SOCKET={cluster.alpha.control_socket()}",
                 f"MIRRORDISK_CONFIG={cluster.alpha.config}", "1 before-demote"):
        assert line in lines, "\n".join(lines)
    assert not any(line.startswith("MIRRORDISK_TEST") for line in lines)
    descriptors = [line.split() for line in lines if " -> " in line]
    assert [entry[-3] for entry in descriptors][:2] == ["0", "1"]
    assert descriptors[0][-1] == "/dev/null"
    # ls itself has its output, and the folder that it lists.
    assert {entry[-3] for entry in descriptors} <= {"0", "1", "2", "3"}, lines


@pytest.mark.door
def test_a_hook_that_refuses_keeps_the_volume_where_it_is(cluster, hooks, make_load):
    hooks["alpha"].add("10-first")
    hooks["alpha"].add("20-no", """\
        [ "$1" = before-demote ] || exit 0
        echo the database; echo does not stop >&2
        exit 3
        """)
    hooks["alpha"].add("30-later")
    load = make_load([cluster.alpha.socket()], count=512).start()
    for arguments in (["demote", "r0", "--disconnect-clients"],
                      ["switch", "r0", "--disconnect-clients"]):
        outcome = cluster.alpha.ctl(*arguments, check=False)
        assert outcome.code == 1, str(outcome)
        assert "20-no" in outcome.err and "the database; does not stop" in outcome.err, str(outcome)
        assert "exit status 3" in outcome.err
        reason = arguments[0]
        assert hooks["alpha"].ran() == [
            f"10-first before-demote {reason}", f"20-no before-demote {reason}",
            f"10-first demote-cancelled {reason}", f"20-no demote-cancelled {reason}",
            f"30-later demote-cancelled {reason}"]
    assert cluster.active() is cluster.alpha
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    failed = cluster.alpha.events("hook-failed")
    assert len(failed) == 2 and "does not stop" in failed[0]["cause"], failed
    assert len(cluster.alpha.events("demotion-refused")) == 2
    hooks["alpha"].add("20-no", mode=0o644)  # switched off
    cluster.alpha.ctl("switch", "r0")
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
def test_clients_that_stay_cancel_a_demotion_after_its_hooks(cluster, hooks, make_load):
    hooks["alpha"].add("10-first")
    load = make_load([cluster.alpha.socket()], count=512).start()
    load.wait_progress()
    assert cluster.alpha.ctl("demote", "r0", check=False).code == 1
    assert hooks["alpha"].ran() == ["10-first before-demote demote",
                                    "10-first demote-cancelled demote"]
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()


def test_a_target_that_refuses_sends_the_volume_back(cluster, hooks):
    hooks["alpha"].add("10-here")
    hooks["beta"].add("10-no", '[ "$1" != before-promote ] || { echo no room; exit 1; }\n')
    outcome = cluster.alpha.ctl("switch", "r0", check=False)
    assert outcome.code == 1 and "no room" in outcome.err, str(outcome)
    assert cluster.active() is cluster.alpha
    assert hooks["alpha"].ran() == [f"10-here {occasion} switch" for occasion in (
        "before-demote", "after-demote", "before-promote", "after-promote")]
    assert hooks["beta"].ran() == ["10-no before-promote switch", "10-no promote-cancelled switch"]
    assert cluster.beta.events("promotion-refused")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.seconds(60)
def test_a_promotion_whose_peer_went_on_while_its_hooks_ran_is_refused(make_cluster):
    """What the verdict before the hooks knew is asked again behind them."""
    cluster = make_cluster({"r0": {"hook_timeout": "60s"}}, proxied=True).start_active()
    alpha, beta = cluster.nodes
    alpha.ctl("demote", "r0")
    running = alpha.directory / "running"
    may_end = alpha.directory / "may-end"
    hooks = Hooks(alpha)
    hooks.add("10-waits", f"""\
        [ "$1" = before-promote ] || exit 0
        touch {running}
        until [ -e {may_end} ]; do sleep 0.02; done
        """)
    outcome = []
    promotion = threading.Thread(
        target=lambda: outcome.append(alpha.ctl("promote", "r0", check=False)))
    promotion.start()
    try:
        cluster.wait(running.exists, "the hook to run")
        for proxy in cluster.proxies.values():
            proxy.cut()
        beta.ctl("promote", "r0", "--force")
        for proxy in cluster.proxies.values():
            proxy.open()
    finally:
        may_end.touch()
        promotion.join()
    assert outcome[0].code == 1 and "beta is active" in outcome[0].err, str(outcome[0])
    assert hooks.ran() == ["10-waits before-promote promote", "10-waits promote-cancelled promote"]
    assert alpha.events("promotion-refused")
    assert cluster.active() is beta
    cluster.wait_in_sync(beta)


def test_a_hook_that_fails_after_the_promotion_changes_nothing(cluster, hooks):
    hooks["beta"].add("10-fails", '[ "$1" != after-promote ] || { echo no such unit; exit 5; }\n')
    hooks["beta"].add("20-runs")
    outcome = cluster.alpha.ctl("switch", "r0")
    assert cluster.active() is cluster.beta, str(outcome)
    assert "20-runs after-promote switch" in hooks["beta"].ran()
    (failed,) = cluster.beta.events("hook-failed")
    assert "no such unit" in failed["cause"] and failed["severity"] == "warning"
    cluster.beta.ctl("demote", "r0")
    shown = cluster.beta.ctl("promote", "r0").out
    assert "no such unit" in shown, shown


@pytest.mark.seconds(120)
def test_a_hook_that_hangs_is_killed_with_all_that_it_started(make_cluster):
    cluster = make_cluster({"r0": {"hook_timeout": "1s"}}).start_active()
    hooks = Hooks(cluster.alpha)
    children = cluster.alpha.directory / "children"
    hooks.add("10-hangs", f"""\
        [ "$1" = before-demote ] || exit 0
        sleep 1000 & echo $! >{children}
        echo $$ >>{children}
        echo waiting for ever
        sleep 1000
        """)
    begin = time.monotonic()
    outcome = cluster.alpha.ctl("demote", "r0", check=False)
    assert outcome.code == 1, str(outcome)
    assert time.monotonic() - begin < 20 * environment.slowness()
    assert "killed after 1.0 s" in outcome.err and "waiting for ever" in outcome.err, str(outcome)
    pids = children.read_text(encoding="utf-8").split()
    assert len(pids) == 2
    cluster.wait(lambda: all(is_gone(pid) for pid in pids), "the hook and its child to be gone")
    assert cluster.active() is cluster.alpha
    assert hooks.ran()[-1] == "10-hangs demote-cancelled demote"


def kill_and_wait_for_the_next(node, occasion):
    """A hook that ends only when another engine serves, and replicates."""
    pid_file = node.run_dir / "r0.pid"
    return f"""\
        [ "$1" = {occasion} ] || exit 0
        old=$(cat {pid_file})
        kill -9 "$old"
        until [ -s {pid_file} ] && [ "$(cat {pid_file})" != "$old" ]; do sleep 0.02; done
        exec {environment.MIRRORCTL} wait r0 --for in-sync --timeout 60
        """


@pytest.mark.door
def test_an_engine_that_dies_while_hooks_run_is_started_again_meanwhile(
        cluster, hooks, make_load):
    alpha, beta = cluster.nodes
    hooks["alpha"].add("10-kills", kill_and_wait_for_the_next(alpha, "before-demote"))
    hooks["beta"].add("10-kills", kill_and_wait_for_the_next(beta, "after-promote"))
    load = make_load([alpha.socket()]).start()
    load.wait_progress(50)
    load.stop()
    alpha.ctl("switch", "r0")
    for node in cluster.nodes:
        assert len(node.events("engine-died")) == len(node.events("engine-restarted")) == 1
        assert not node.events("hook-failed")
    assert cluster.active() is beta
    cluster.wait_in_sync(beta)
    load.verify_volume(beta.socket())
    beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_hook_that_leaves_something_running_is_not_waited_for(cluster, hooks):
    pid_file = cluster.alpha.directory / "left"
    hooks["alpha"].add("10-leaves", f"""\
        [ "$1" = before-demote ] || exit 0
        sleep 60 & echo $! >{pid_file}
        """)
    cluster.alpha.ctl("demote", "r0", timeout=30)
    pid = int(pid_file.read_text(encoding="utf-8"))
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_file_that_others_may_write_is_not_run(cluster, hooks):
    hooks["alpha"].add("10-unsafe", mode=0o777)
    hooks["alpha"].add("20-safe")
    problems = cluster.alpha.ctl("check", check=False)
    assert problems.code == 1 and "10-unsafe" in problems.out, str(problems)
    cluster.alpha.ctl("demote", "r0")
    assert {line.split()[0] for line in hooks["alpha"].ran()} == {"20-safe"}
    assert "10-unsafe" in cluster.alpha.events("hook-failed")[0]["cause"]
    hooks["alpha"].folder.chmod(0o777)
    cluster.alpha.ctl("promote", "r0")
    assert not hooks["alpha"].ran()


def test_a_hook_may_ask_mirrorctl(cluster, hooks):
    asked = cluster.alpha.directory / "asked"
    hooks["alpha"].add("10-ask", f"{environment.MIRRORCTL} status --json >{asked} || true\n")
    cluster.alpha.ctl("demote", "r0")
    assert '"r0"' in asked.read_text(encoding="utf-8")


def test_a_dry_run_says_that_there_are_hooks_and_runs_none(cluster, hooks):
    hooks["alpha"].add("10-first")
    assert "hooks.d" in cluster.alpha.ctl("demote", "r0", "--dry-run").out
    assert not hooks["alpha"].ran()
