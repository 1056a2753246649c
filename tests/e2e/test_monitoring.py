# SPDX-License-Identifier: BSD-3-Clause
"""What monitors and people are told without asking: one line with a verdict, programs that are run
for events, and the journal."""

import http.server
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import threading
import time

import nbd
import pytest

from lib import control, environment, processes

EXAMPLES = environment.ROOT / "packaging" / "events"
LINE = re.compile(r"MIRRORDISK (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+(?: \|( '[\w.-]+'=\S+)+)?\n")
WORDS = ["OK", "WARNING", "CRITICAL", "UNKNOWN"]


def nagios(node, *words, **options):
    """(the verdict, the line): checked to be what a monitor reads."""
    outcome = node.ctl("check", *words, "--nagios", check=False, **options)
    assert LINE.fullmatch(outcome.out), str(outcome)
    assert outcome.out.startswith(f"MIRRORDISK {WORDS[outcome.code]} - "), str(outcome)
    return WORDS[outcome.code], outcome.out


class Programs:
    """events.d of one node. Each program writes down the events that it was run for."""

    def __init__(self, node):
        self.node = node
        self.folder = node.directory / "events.d"
        self.folder.mkdir()
        self.folder.chmod(0o755)

    def add(self, name, body="", mode=0o755):
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}\ncat >>{self.record(name)}\n", encoding="utf-8")
        path.chmod(mode)

    def record(self, name):
        return self.node.directory / f"{name}.record"

    def handed(self, name):
        record = self.record(name)
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        return [json.loads(line) for line in lines]

    def ids(self, name):
        return [event["id"] for event in self.handed(name)]


@pytest.fixture
def programs(cluster):
    return {node.name: Programs(node) for node in cluster.nodes}


# -- check --nagios ------------------------------------------------------------------------------


def test_a_monitor_is_told_what_is_wrong_on_either_node(cluster):
    alpha, beta = cluster.nodes
    cluster.wait(lambda: nagios(alpha)[0] == nagios(beta)[0] == "OK", "both nodes to be well")
    assert "r0 in-sync, active on alpha |" in nagios(beta)[1]
    assert "'r0_behind'=0B" in nagios(alpha)[1] and "'r0_rpo'=0s" in nagios(beta)[1]
    beta.kill_everything()
    cluster.wait_state(alpha, "broken")
    verdict, line = nagios(alpha)
    assert verdict == "WARNING" and "r0 broken: " in line, line
    assert nagios(alpha, "r0")[0] == "WARNING"
    beta.start()
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.wait_in_sync(alpha)
    verdict, line = nagios(alpha)
    assert verdict == "CRITICAL" and "in-sync, active on no node" in line, line
    assert alpha.ctl("status", check=False).code == 1
    cluster.assert_replicas_equal()
    alpha.ctl("promote", "r0")
    cluster.wait_in_sync(beta)
    alpha.kill_everything()
    cluster.wait_state(beta, "peer-unknown")
    verdict, line = nagios(beta)
    assert verdict == "UNKNOWN" and "'r0_behind'=U" in line and "'r0_rpo'=U" in line, line
    assert nagios(alpha)[0] == "UNKNOWN", "its mirrord is gone"


def test_writes_that_wait_are_critical(make_cluster):
    cluster = make_cluster({"r0": {"on_peer_loss": "stop"}}).start_active()
    cluster.beta.kill_everything()
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    handle.aio_pwrite(b"x" * 512, 0)
    cluster.wait_state(cluster.alpha, "broken")
    verdict, line = nagios(cluster.alpha)
    assert verdict == "CRITICAL" and "writes are held" in line, line
    assert cluster.alpha.ctl("status", check=False).code == 2


def test_a_finding_of_verify_is_a_warning_until_it_is_repaired(cluster):
    with open(cluster.backing(cluster.beta), "r+b") as backing:
        backing.write(b"rot")
    assert cluster.alpha.ctl("verify", "r0", "--wait", check=False).code == 1
    verdict, line = nagios(cluster.alpha)
    assert verdict == "WARNING" and "verify found differences" in line, line
    assert "'r0_verify_differs'=4096B" in line
    cluster.alpha.ctl("verify", "r0", "--repair", "--wait")
    cluster.wait(lambda: nagios(cluster.alpha)[0] == "OK", "it to be well again")
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_problems_beside_the_volumes_are_a_warning_of_the_node_alone(cluster, programs):
    programs["alpha"].add("50-unsafe", mode=0o777)
    verdict, line = nagios(cluster.alpha)
    assert verdict == "WARNING" and "50-unsafe can be written by users other than its owner" in line, line
    assert nagios(cluster.alpha, "r0")[0] == "OK"
    checked = cluster.alpha.ctl("check", check=False)
    assert checked.code == 1 and "50-unsafe" in checked.out, str(checked)


def test_a_hung_mirrord_is_unknown_in_time(cluster):
    cluster.alpha.pause()
    try:
        began = time.monotonic()
        verdict, line = nagios(cluster.alpha, "--timeout", "2s")
        assert time.monotonic() - began < 4 * environment.slowness()
        assert verdict == "UNKNOWN", line
        assert nagios(cluster.alpha, "r0", "--timeout", "500ms")[0] == "UNKNOWN"
    finally:
        cluster.alpha.go_on()
    cluster.wait(lambda: nagios(cluster.alpha)[0] == "OK", "it to answer again")


def test_a_monitors_own_mistakes_are_unknown_and_never_critical(cluster):
    assert nagios(cluster.alpha, "nosuch")[0] == "UNKNOWN"
    assert nagios(cluster.alpha, "--colour")[0] == "UNKNOWN"
    assert nagios(cluster.alpha, "--node", "gamma")[0] == "UNKNOWN"
    cluster.alpha.config.write_text("nonsense", encoding="utf-8")
    assert nagios(cluster.alpha)[0] == "UNKNOWN"


# -- programs that are run for events ------------------------------------------------------------


def test_programs_on_both_nodes_are_told_of_a_break_and_of_its_end(cluster, programs):
    for each in programs.values():
        each.add("50-told")
    alpha, beta = cluster.nodes
    beta.stop()
    cluster.wait(lambda: "mirror-break" in programs["alpha"].ids("50-told"), "the break to be told")
    handle = nbd.NBD()
    handle.connect_unix(str(alpha.socket()))
    handle.pwrite(b"x" * 4096, 0)
    beta.start()
    cluster.wait_in_sync(alpha)
    for each in programs.values():
        cluster.wait(lambda each=each: "in-sync" in each.ids("50-told"),
                     f"{each.node.name} to tell that both are equal")
    # What a person reads last on the standby is not that it is stale.
    ids = [event["id"] for event in beta.events(volume="r0")]
    assert "stale" not in ids[len(ids) - 1 - ids[::-1].index("in-sync"):], ids
    [told] = [event for event in programs["alpha"].handed("50-told")
              if event["id"] == "mirror-break"]
    assert told["volume"] == "r0" and told["severity"] in ("warning", "error") and told["text"]
    handle.shutdown()
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def missing(node, handed):
    """What the log has from the first event on that was handed over, and `handed` lacks. One that
    was handed over twice in a row was so at a death of mirrord."""
    events = [event for event in node.events() if event["id"] != "event-hook-failed"]
    once = [event for event, before in zip(handed, [None, *handed]) if event != before]
    assert len(handed) - len(once) <= 2, "more than once, without a death"
    expected = events[events.index(once[0]):] if once else events
    assert once == expected[:len(once)], "not in the order of the log"
    return expected[len(once):]


def test_each_event_is_handed_over_in_order_across_deaths_of_mirrord(cluster, programs):
    alpha = cluster.alpha
    told = programs["alpha"]
    told.add("50-told")
    alpha.ctl("disconnect", "r0")
    cluster.wait(lambda: told.handed("50-told"), "the first event")
    for end_of_mirrord in (alpha.stop, alpha.kill_daemon):
        cluster.wait(lambda: not missing(alpha, told.handed("50-told")), "all to be handed over")
        end_of_mirrord()
        # The engine records on while nobody hands anything over.
        before = len(alpha.events("disconnected"))
        for verb in ("connect", "disconnect"):
            control.ask(alpha.control_socket(), {"request": verb, "volume": "r0"})
        cluster.wait(lambda: len(alpha.events("disconnected")) > before,  # pylint: disable=cell-var-from-loop
                     "the engine to record what it did")
        assert missing(alpha, told.handed("50-told"))
        alpha.start()
    cluster.wait(lambda: not missing(alpha, told.handed("50-told")), "all to be handed over")
    alpha.ctl("connect", "r0")
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_program_that_hangs_holds_nothing_of_the_mirror(cluster, programs, make_load):
    alpha, beta = cluster.nodes
    pid_file = alpha.directory / "hanging"
    programs["alpha"].add("50-hangs", f"echo $$ >{pid_file}; sleep 1000")
    load = make_load([alpha.socket(), beta.socket()]).start()
    alpha.ctl("disconnect", "r0")
    began = time.monotonic()
    cluster.wait(pid_file.exists, "the program to hang")
    load.wait_progress()
    alpha.ctl("connect", "r0")
    cluster.wait_in_sync(alpha)
    alpha.ctl("switch", "r0", "--disconnect-clients")
    cluster.wait_in_sync(beta)
    load.wait_progress()
    if time.monotonic() - began < 25:  # it is killed after 30 s
        assert processes.is_alive(int(pid_file.read_text(encoding="utf-8")))
    load.stop()
    beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    began = time.monotonic()
    assert alpha.stop() == 0
    assert time.monotonic() - began < 15 * environment.slowness()
    pid = int(pid_file.read_text(encoding="utf-8"))
    cluster.wait(lambda: not processes.is_alive(pid), "the program to end with mirrord")


def test_the_programs_can_be_tried_and_what_is_not_run_is_named(cluster, programs):
    tried = cluster.alpha.ctl("events", "--test-hooks", check=False)
    assert tried.code == 1 and "no program in" in tried.out, str(tried)
    programs["alpha"].add("10-good")
    tried = cluster.alpha.ctl("events", "r0", "--test-hooks")
    assert "10-good: exit status 0 after" in tried.out, str(tried)
    assert programs["alpha"].handed("10-good")[-1]["volume"] == "r0"
    programs["alpha"].add("20-bad", "echo no route to the server >&2; exit 7")
    programs["alpha"].add("30-unsafe", mode=0o777)
    tried = cluster.alpha.ctl("events", "--test-hooks", "--json", check=False)
    assert tried.code == 1, str(tried)
    good, bad = tried.json["hooks"]
    assert good["succeeded"] and not bad["succeeded"] and bad["how"] == "exit status 7"
    assert bad["output"] == "no route to the server"
    assert "30-unsafe" in tried.json["problems"][0]
    assert cluster.alpha.ctl("events", "nosuch", "--test-hooks", check=False).code == 1


# -- the examples --------------------------------------------------------------------------------


def example_environment(tmp_path, **more):
    variables = {"EVENT": "mirror-break", "SEVERITY": "warning", "VOLUME": "r0", "NODE": "alpha",
                 "TEXT": "beta is left out", "CAUSE": "$(touch /tmp/no)", "REMEDY": "",
                 "TIME": "2026-03-01T12:30:05Z", "CONFIG": str(tmp_path / "mirrordisk.toml"),
                 "PEER": "beta"} | more
    return ({"PATH": f"{tmp_path}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
            | {f"MIRRORDISK_{name}": value for name, value in variables.items()})


@pytest.mark.without_build
def test_the_example_for_mail_sends_what_matters_and_nothing_else(tmp_path):
    mailer = tmp_path / "sendmail"
    mailer.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/arguments; cat >{tmp_path}/mail\n',
                      encoding="utf-8")
    mailer.chmod(0o755)
    subprocess.run(["sh", EXAMPLES / "event-mail"], check=True, timeout=60, input="{}", text=True,
                   env=example_environment(tmp_path))
    mail = (tmp_path / "mail").read_text(encoding="utf-8")
    head, body = mail.split("\n\n", 1)
    assert "Subject: [alpha] warning: r0 mirror-break" in head.splitlines() and "To: root" in head
    assert "beta is left out" in body and "cause:  $(touch /tmp/no)" in body
    assert (tmp_path / "arguments").read_text(encoding="utf-8") == "-t -oi\n"
    (tmp_path / "mail").unlink()
    for event, severity, wanted in (("promoted", "info", False), ("in-sync", "info", True),
                                    ("test", "info", True), ("diverged", "error", True)):
        subprocess.run(["sh", EXAMPLES / "event-mail"], check=True, timeout=60, input="{}",
                       text=True,
                       env=example_environment(tmp_path, EVENT=event, SEVERITY=severity, VOLUME=""))
        assert (tmp_path / "mail").exists() == wanted, event
        (tmp_path / "mail").unlink(missing_ok=True)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted in its server's list."""

    def do_POST(self):  # pylint: disable=invalid-name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.headers["Content-Type"], json.loads(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_arguments):  # pylint: disable=arguments-differ
        pass


def test_the_example_for_a_webhook_posts_the_event(cluster, programs):
    if not pathlib.Path("/usr/bin/curl").exists():
        pytest.skip("needs curl")
    with http.server.HTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.posted = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (cluster.alpha.directory / "webhook.conf").write_text(
            f'url = "http://127.0.0.1:{server.server_port}/hook"\n', encoding="utf-8")
        program = programs["alpha"].folder / "60-webhook"
        program.write_bytes((EXAMPLES / "event-webhook").read_bytes())
        program.chmod(0o755)
        cluster.alpha.ctl("events", "r0", "--test-hooks")
        cluster.alpha.ctl("disconnect", "r0")
        cluster.wait(lambda: len(server.posted) >= 2, "the break to be posted")
        server.shutdown()
    assert [kind for kind, _ in server.posted] == ["application/json"] * len(server.posted)
    assert server.posted[0][1]["id"] == "test"
    assert server.posted[1][1] in cluster.alpha.events()
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


# -- the journal ---------------------------------------------------------------------------------


class Journal:
    """A journal's native socket, seen by one node where systemd has it."""

    def __init__(self, node):
        path = node.directory / "journal.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.entries = []
        # Few entries wait in a socket: somebody reads all the time.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        node.log.touch()
        status = node.log.stat()
        node.extra_environment["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
        # A mount namespace of its own: nobody else on this machine has that journal.
        node.prefix = ["unshare", "--mount", "sh", "-ec", f"""
            mount -t tmpfs none /run
            mkdir -p /run/systemd/journal
            touch /run/systemd/journal/socket
            mount --bind {path} /run/systemd/journal/socket
            exec "$@" """, "sh"]

    def _read(self):
        while datagram := self.socket.recv(1 << 20):
            self.entries.append(fields_of(datagram))

    def of(self, event):
        return [entry for entry in list(self.entries) if entry["MIRRORDISK_EVENT"] == event]

    def end(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(20)
        self.socket.close()


def fields_of(datagram):
    fields = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name = line
            (length,) = struct.unpack("<Q", datagram[:8])
            value, datagram = datagram[8:8 + length], datagram[9 + length:]
        fields[name.decode()] = value.decode()
    return fields


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_events_are_in_the_journal_once_with_their_fields(make_cluster):
    cluster = make_cluster()
    alpha, beta = cluster.nodes
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("no mount namespaces here")
    journal = Journal(alpha)
    cluster.start_active()
    beta.stop()
    cluster.wait(lambda: journal.of("mirror-break"), "the engine to tell the journal of the break")
    [entry] = journal.of("mirror-break")
    [event] = alpha.events("mirror-break")
    assert entry["VOLUME"] == "r0" and entry["MIRRORDISK_NODE"] == "alpha"
    assert event["text"] in entry["MESSAGE"] and entry["PRIORITY"] in ("3", "4")
    # uuidgen --sha1 --namespace e9a4d3b0-5c1f-4a57-9d0c-6f2b8a71c35e --name mirror-break
    assert entry["MESSAGE_ID"] == "9a8151b38a325a70b1db679a20596cd0"
    assert entry["SYSLOG_IDENTIFIER"] == "mirrord"
    [started] = journal.of("daemon-started")
    assert "VOLUME" not in started
    log = alpha.log.read_text(encoding="utf-8")
    for told in list(journal.entries):
        assert told["MESSAGE"] not in log, "told twice"
    cluster.wait(lambda: [event["id"] for event in alpha.events()].count("mirror-break") == 1
                 and {told["MIRRORDISK_EVENT"] for told in list(journal.entries)} >= {
                     event["id"] for event in alpha.events()}, "all events to be in the journal")
    # Without a journal that takes them they are lines again.
    journal.end()
    beta.start()
    cluster.wait_in_sync(alpha)
    in_sync = alpha.events("in-sync")[-1]["text"]
    cluster.wait(lambda: in_sync in alpha.log.read_text(encoding="utf-8"), "it to be a line")
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
