# SPDX-License-Identifier: BSD-3-Clause
"""Each cell of WHO MAY DO WHAT in mirrordisk-protocol(7), asked of real processes. The column
`node`, which takes certificates, is in tests/unit/who_may_what_test.cpp."""

import grp
import os
import re
import subprocess

import pytest

from lib import askers, control, environment
from lib.askers import STRANGE_UID
from lib.cluster import Cluster

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users, which needs root")

GROUP = "users"
PAGE = environment.ROOT / "docs" / "mirrordisk-protocol.pod"
# The volume that is there, as seen by alpha, who is asked.
VOLUMES = {"a": "here", "s": "there", "n": "none"}


def table(first_column):
    """{row: {column: cell}} of the table whose header begins with that word and "root"."""
    rows, columns = {}, None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if words[:2] == [first_column, "root"]:
            assert columns is None, f"two tables of {first_column}"
            columns = words[1:]
        elif columns and words and not line.startswith(" "):
            break
        elif columns and words and words[0] in rows:
            break  # the next table
        elif columns and words:
            assert len(words) == len(columns) + 1, line
            assert all(re.fullmatch("[a-][s-][n-]", cell) for cell in words[1:7]), line
            rows[words[0]] = dict(zip(columns, words[1:]))
    return rows


REQUESTS = table("request")
EXPORTS = table("export")


def engine_table():
    """The table of VOLUME.sock has a column `others` and is the last one."""
    text = PAGE.read_text(encoding="utf-8")
    start = re.search(r"^ export +root +others$", text, re.MULTILINE).end()
    rows = [line.split() for line in text[start:].split("\n=head", 1)[0].splitlines() if line]
    return {row[0]: {"root": row[1], "others": row[2]} for row in rows}


ENGINE_EXPORTS = engine_table()


def test_the_tables_are_read_whole():
    assert len(REQUESTS) > 30 and len(EXPORTS) == 9 and len(ENGINE_EXPORTS) == 2
    askers_of = ["root", "group", "user", "peer", "node", "stranger"]
    for row in REQUESTS.values():
        assert list(row) == [*askers_of, "remote", "harm"]
        assert row["remote"] in ("-", "switch", "full", "always") and row["harm"] in (
            "-", "clients", "data")
    for row in EXPORTS.values():
        assert list(row) == askers_of


# What makes a request harmless, or fail for its fields, which are looked at later than who asks
# and where the volume is.
FIELDS = {
    "demote-all": {"dry_run": True}, "create": {"dry_run": True}, "promote": {"dry_run": True},
    "demote": {"dry_run": True}, "switch": {"dry_run": True}, "connect": {"dry_run": True},
    "disconnect": {"dry_run": True}, "resync": {"dry_run": True}, "verify": {"dry_run": True},
    "resize": {"dry_run": True, "more_bytes": 1 << 20}, "resolve": {"dry_run": True, "keep": "nobody"},
    "attach": {"dry_run": True}, "detach": {"dry_run": True}, "restart-engine": {"dry_run": True},
    "undo-drop": {"dry_run": True, "id": 99}, "peer-status": {"node": "beta", "protocol": 3},
}
# Which allowed ones are answered with what was asked for, so that "allowed" is no empty word.
ANSWERED = {
    ("version", "asn"), ("status", "asn"), ("check", "asn"), ("demote-all", "asn"),
    ("test-event-hooks", "asn"),
    ("create", "n"), ("demote", "as"), ("switch", "as"), ("connect", "as"), ("disconnect", "as"),
    ("resync", "as"), ("verify", "as"), ("resize", "as"), ("restart-engine", "a"),
    ("undo-drop", "asn"), ("peer-status", "asn"), ("promote", "a"), ("differing-regions", "as"),
}
FIELDS["differing-regions"] = {"from": 0}


@pytest.fixture(name="cluster", scope="module")
def cluster_fixture():
    """`here` is active on alpha, `there` on beta, `none` was not made; the sockets are GROUP's."""
    # beta carries out what alpha passes on of `there`.
    cluster = Cluster({name: {"remote_verbs": "full"} if name == "there" else {}
                       for name in VOLUMES.values()})
    cluster.write_config(f'control_group = "{GROUP}"\n' + cluster.config_text())
    cluster.directory.chmod(0o755)
    try:
        cluster.start().create("here").create("there")
        cluster.alpha.ctl("promote", "here")
        cluster.beta.ctl("promote", "there")
        cluster.wait_in_sync(cluster.alpha, "here")
        cluster.wait_in_sync(cluster.beta, "there")
        yield cluster
        # Whatever was asked, nothing has changed.
        for node, volume in ((cluster.alpha, "here"), (cluster.beta, "there")):
            assert node.state(volume) == "in-sync"
            node.ctl("demote", volume)
            cluster.assert_replicas_equal(volume)
        assert not cluster.alpha.meta("none").exists()
    except BaseException:
        cluster.keep = True
        print(cluster.logs())
        raise
    finally:
        cluster.close()


@pytest.fixture(name="member", scope="module")
def member_fixture():
    """In the group among others, which is what most members are."""
    asker = askers.Asker(STRANGE_UID, STRANGE_UID, [STRANGE_UID + 1, grp.getgrnam(GROUP).gr_gid])
    yield asker
    asker.end()


@pytest.fixture(name="nobody", scope="module")
def nobody_fixture():
    asker = askers.Asker(STRANGE_UID, STRANGE_UID)
    yield asker
    asker.end()


@pytest.fixture(name="call")
def call_fixture(cluster, member, nobody):
    """call(who, function, *arguments): as that one, by the way that this one comes."""
    socket = str(cluster.alpha.run_dir / "mirrord.sock")

    def call(who, function, *arguments):
        if who in ("root", "peer"):
            return function(cluster.alpha.door if who == "peer" else socket, *arguments)
        return {"group": member, "user": nobody}[who].call(function, socket, *arguments)
    return call


def ground_of(reply):
    if "closed" in reply:
        return "who"
    return "" if reply["ok"] else reply["error"].get("ground", "")


def expected_ground(cell, letter):
    return "" if letter in cell else "who" if cell == "---" else "state"


@pytest.mark.parametrize("letter", VOLUMES)
@pytest.mark.parametrize("who", ["root", "group", "user", "peer"])
@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_request_is_served_to_whom_the_table_says(call, request_name, who, letter):
    cell = REQUESTS[request_name][who]
    if who == "peer" and REQUESTS[request_name]["remote"] == "full":
        pytest.skip("remote_verbs is switch here; tests/e2e/test_taken_peer.py has the levels")
    reply = call(who, askers.ask, {"request": request_name, "volume": VOLUMES[letter],
                                   **FIELDS.get(request_name, {})})
    assert ground_of(reply) == expected_ground(cell, letter), reply
    if letter in cell and any(name == request_name and letter in letters
                              for name, letters in ANSWERED):
        assert reply["ok"], reply
    if not reply["ok"] and "closed" not in reply:
        assert reply["error"]["message"], reply


@pytest.mark.parametrize("letter", VOLUMES)
@pytest.mark.parametrize("who", ["root", "group", "user", "peer"])
@pytest.mark.parametrize("export", EXPORTS)
def test_an_export_opens_for_whom_the_table_says(call, export, who, letter):
    volume = VOLUMES[letter]
    name = export.replace("VOLUME", volume).replace("SESSION", "0" * 32)
    why_not = call(who, askers.why_not_open, name)
    ground = expected_ground(EXPORTS[export][who], letter)
    if ground == "who":
        assert "Permission denied" in why_not or "only root" in why_not or "is for root" in why_not, why_not
    elif ground == "state":
        assert f"{volume} is active on alpha" in why_not or "has no replica of none" in why_not, why_not
    elif "SESSION" in export:
        assert "session" in why_not, why_not  # a made-up one: that is looked at last
    else:
        assert not why_not


# -- strangers -------------------------------------------------------------------------------------

def ask_as_stranger(node, request):
    """Asks over the network without key and certificate."""
    return askers.ask(node.address, request)


@pytest.mark.parametrize("request_name", REQUESTS)
def test_a_stranger_opens_nothing(cluster, request_name):
    assert set(REQUESTS[request_name].values()) and REQUESTS[request_name]["stranger"] == "---"
    reply = ask_as_stranger(cluster.alpha, {"request": request_name, "volume": "here",
                                            **FIELDS.get(request_name, {})})
    assert "closed" in reply, reply


# -- who is who ------------------------------------------------------------------------------------

def test_a_user_is_refused_by_mirrord_too_and_told_what_would_help(cluster, nobody):
    socket = cluster.alpha.run_dir / "mirrord.sock"
    status = socket.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (
        os.geteuid(), grp.getgrnam(GROUP).gr_gid, 0o660)
    socket.chmod(0o666)
    try:
        for export in ("control", "there/changes"):
            why_not = nobody.call(askers.why_not_open, str(socket), export)
            assert f"you are uid {STRANGE_UID}" in why_not and GROUP in why_not, why_not
    finally:
        socket.chmod(0o660)


def test_the_primary_group_counts_like_the_others(cluster):
    asker = askers.Asker(STRANGE_UID, grp.getgrnam(GROUP).gr_gid)
    reply = asker.call(askers.ask, str(cluster.alpha.run_dir / "mirrord.sock"),
                       {"request": "version"})
    asker.end()
    assert reply["ok"], reply


def mirrorctl(node, *words, groups=()):
    return subprocess.run([str(environment.MIRRORCTL), *words], capture_output=True, text=True,
                          env=node.environment(), user=STRANGE_UID, group=STRANGE_UID,
                          extra_groups=list(groups), timeout=60, check=False)


def test_mirrorctl_works_for_members_and_tells_others_to_join(cluster):
    done = mirrorctl(cluster.alpha, "status", "here", groups=[grp.getgrnam(GROUP).gr_gid])
    assert done.returncode == 0 and "in-sync" in done.stdout, done
    refused = mirrorctl(cluster.alpha, "status", "here")
    assert refused.returncode == 3 and f"join the group {GROUP}" in refused.stderr, refused


@pytest.mark.parametrize("how", ["force", "fenced"])
def test_a_peer_may_not_force_a_promotion(cluster, how):
    reply = control.ask(cluster.alpha, {"request": "promote", "volume": "there", how: True})
    assert ground_of(reply) == "who" and "forced" in reply["error"]["message"], reply


def claims(name):
    return [
        {"request": "peer-status", "node": name, "protocol": 3},
        {"request": "session-begin", "volume": "there", "source": name, "session": "1" * 32},
        {"request": "agree", "volume": "there", "node": name, "summary": {}},
        {"request": "create-replica", "volume": "none", "source": name},
        {"request": "resolve-agree", "volume": "there", "node": name, "generation": "1" * 32},
        {"request": "resize-replica", "volume": "there", "source": name, "step": "check",
         "from_bytes": 0, "size_bytes": 0},
    ]


@pytest.mark.parametrize("request_", claims("gamma"), ids=lambda request: request["request"])
def test_who_says_that_it_is_another_node_is_refused(cluster, request_):
    reply = control.ask(cluster.alpha, request_)
    assert ground_of(reply) == "who" and "gamma" in reply["error"]["message"], reply


def test_a_node_is_not_its_own_peer(cluster):
    for request in claims("alpha")[1:]:
        reply = control.ask(cluster.alpha, request)
        assert ground_of(reply) == "who", reply


def test_a_refusal_of_somebody_on_the_network_is_an_event_once_in_a_while(cluster):
    for _ in range(50):
        reply = control.ask(cluster.beta, {"request": "undo-drop", "volume": "here"})
        assert ground_of(reply) == "who", reply
    events = cluster.beta.events("request-refused")
    # Ten seconds apart, and this took less than thirty of them.
    assert 1 <= len(events) <= 3, events
    assert "127.0.0.1" in events[0]["text"] and "undo-drop" in events[0]["cause"], events


def test_a_local_refusal_is_told_to_who_asks_and_to_nobody_else(make_cluster, member):
    cluster = make_cluster()
    cluster.write_config(f'control_group = "{GROUP}"\n' + cluster.config_text())
    cluster.directory.chmod(0o755)
    cluster.start()
    reply = member.call(askers.ask, str(cluster.alpha.run_dir / "mirrord.sock"),
                        {"request": "agree", "volume": "r0"})
    assert ground_of(reply) == "who", reply
    assert not cluster.alpha.events("request-refused")


# -- the volume's own socket -----------------------------------------------------------------------

@pytest.mark.parametrize("letter", VOLUMES)
@pytest.mark.parametrize("who", ["root", "others"])
@pytest.mark.parametrize("export", ENGINE_EXPORTS)
def test_a_volume_serves_io_to_whom_the_mode_lets_in_and_control_to_root(cluster, nobody, export,
                                                                       who, letter):
    volume = VOLUMES[letter]
    socket = cluster.alpha.control_socket(volume)
    cell = ENGINE_EXPORTS[export][who]
    if letter != "a":
        assert letter not in cell and not socket.exists()
        return
    socket.chmod(0o666)
    try:
        def call(function, *arguments):
            return nobody.call(function, *arguments) if who == "others" else function(*arguments)
        if export == "VOLUME":
            data = os.urandom(4096)
            for name in ("", volume):
                answer = call(askers.write_and_read, str(socket), name, data)
                assert (answer == data) == (letter in cell), answer
        else:
            reply = call(askers.ask, str(socket), {"request": "status"})
            assert reply["ok"] == (letter in cell), reply
            if letter not in cell:
                # So nbdkit says that a plugin has refused to open an export.
                assert "no export named 'control'" in reply["closed"], reply
    finally:
        socket.chmod(0o600)


# -- a group that is not there ---------------------------------------------------------------------

def test_a_group_that_the_machine_does_not_have_is_named_with_the_remedy(make_cluster):
    cluster = make_cluster()
    cluster.write_config('control_group = "no-such-group"\n' + cluster.config_text())
    cluster.alpha.launch()
    assert cluster.alpha.daemon.wait(30) == 1
    cluster.alpha.daemon = None
    checked = cluster.alpha.ctl("check", check=False)
    assert checked.code == 1, str(checked)
    for text in (cluster.alpha.log_tail(), checked.err):
        for word in (str(cluster.alpha.config), "control_group", "no-such-group", "groupadd"):
            assert word in text, text


def test_without_a_group_the_socket_is_for_root_alone(make_cluster, member):
    cluster = make_cluster()
    cluster.directory.chmod(0o755)
    cluster.start()
    socket = cluster.alpha.run_dir / "mirrord.sock"
    assert socket.stat().st_mode & 0o777 == 0o600
    socket.chmod(0o666)
    why_not = member.call(askers.why_not_open, str(socket), "control")
    assert "only root" in why_not or "is for root" in why_not and "control_group" in why_not, why_not
    socket.chmod(0o600)
    refused = mirrorctl(cluster.alpha, "status")
    assert refused.returncode == 3 and "control_group" in refused.stderr, refused
