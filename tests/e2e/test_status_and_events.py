# SPDX-License-Identifier: BSD-3-Clause
"""What status and events say, to people and to programs."""

import datetime
import json
import subprocess

import pytest

from lib import environment

STATES = {"in-sync", "resyncing", "broken", "diverged", "peer-unknown", "failed", "new"}
VOLUME_KEYS = {"name", "role", "state", "since", "why", "mode", "size_bytes", "generation", "device",
               "replica", "peers", "rpo", "rto"}
PEER_KEYS = {"node", "link", "role", "replica_state", "behind_bytes", "last_seen", "break_at",
             "resync"}


def parse_time(text):
    assert text.endswith("Z"), text
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def assert_contract(status):
    assert VOLUME_KEYS <= status.keys(), VOLUME_KEYS - status.keys()
    assert status["state"] in STATES
    assert status["role"] in ("active", "standby")
    assert status["why"].strip(), "why is always a sentence"
    parse_time(status["since"])
    assert {"state", "backing", "media_errors"} <= status["replica"].keys()
    assert {"seconds", "bytes"} <= status["rpo"].keys()
    for peer in status["peers"]:
        assert PEER_KEYS <= peer.keys(), PEER_KEYS - peer.keys()
        assert peer["link"] in ("connected", "connecting", "down")


def test_the_contract_of_status_json(cluster):
    whole = cluster.alpha.ctl("status", "--json").json
    assert (whole["schema"], whole["node"]) == (1, "alpha")
    for node, role in ((cluster.alpha, "active"), (cluster.beta, "standby")):
        status = node.status()
        assert_contract(status)
        assert status["role"] == role
        assert status["size_bytes"] == 64 * 1024 * 1024
        assert status["replica"]["state"] == "up-to-date"
        assert status["replica"]["backing"] == str(cluster.backing(node))
        assert status["peers"][0]["node"] == cluster.other(node).name
    cluster.beta.stop()
    cluster.wait_state(cluster.alpha, "broken")
    status = cluster.alpha.status()
    assert_contract(status)
    assert status["peers"][0]["link"] != "connected"
    parse_time(status["peers"][0]["break_at"])


def test_exit_codes_follow_the_state(cluster):
    assert cluster.alpha.ctl("status").code == 0
    cluster.alpha.ctl("disconnect", "r0")
    assert cluster.alpha.ctl("status", check=False).code == 1
    cluster.alpha.ctl("connect", "r0")
    assert cluster.alpha.ctl("wait", "r0", "--for", "in-sync", "--timeout", "60").code == 0
    outcome = cluster.alpha.ctl("wait", "r0", "--for", "broken", "--timeout", "1", check=False)
    assert outcome.code == 1, str(outcome)


def test_status_for_people_names_state_role_and_reason(cluster):
    out = cluster.alpha.ctl("status").out
    for word in ("r0", "in-sync", "active"):
        assert word in out, out
    assert "\x1b" not in out, "no colours in a pipe"
    cluster.beta.stop()
    cluster.wait_state(cluster.alpha, "broken")
    out = cluster.alpha.ctl("status", check=False).out
    assert "broken" in out and "beta" in out, out


def test_a_standby_that_lost_its_active_does_not_know(cluster):
    cluster.alpha.kill_everything()
    cluster.wait_state(cluster.beta, "peer-unknown")
    assert "alpha" in cluster.beta.status()["why"]
    assert cluster.beta.ctl("status", check=False).code == 3


def test_events_tell_the_story_in_order(cluster):
    cluster.beta.stop()
    cluster.wait_state(cluster.alpha, "broken")
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    events = cluster.alpha.events(volume="r0")
    for event in events:
        assert {"time", "volume", "id", "severity", "text"} <= event.keys(), event
        assert event["severity"] in ("info", "warning", "error")
        assert event["text"].strip()
        parse_time(event["time"])
        if event["severity"] != "info":
            assert event["cause"].strip() and event["remedy"].strip(), event
    ids = [event["id"] for event in events]
    story = ["created", "promoted", "mirror-break", "in-sync", "demoted"]
    position = 0
    for wanted in story:
        assert wanted in ids[position:], f"{wanted} is not after {ids[:position]} in {ids}"
        position = ids.index(wanted, position) + 1
    said = cluster.alpha.ctl("events", "--json").out.splitlines()
    assert [json.loads(line)["id"] for line in said if json.loads(line)["volume"] == "r0"] == ids
    assert "mirror-break" in cluster.alpha.ctl("events").out


def test_events_can_be_followed(cluster):
    with subprocess.Popen([str(environment.MIRRORCTL), "events", "--follow", "--json"],
                          env=cluster.alpha.environment(), stdout=subprocess.PIPE,
                          text=True) as follower:
        cluster.alpha.ctl("demote", "r0")
        for line in follower.stdout:
            if json.loads(line)["id"] == "demoted":
                break
        else:
            pytest.fail("the follower ended without the event")
        follower.kill()


def test_the_daemon_stops_cleanly_and_keeps_what_it_knows(cluster, make_load):
    load = make_load([cluster.alpha.socket()], count=1024).start()
    load.stop()
    cluster.alpha.ctl("demote", "r0")
    before = {node.name: node.status()["generation"] for node in cluster.nodes}
    for node in cluster.nodes:
        assert node.stop() == 0
        node.start()
    for node in cluster.nodes:
        assert node.status()["generation"] == before[node.name]
        assert node.status()["replica"]["state"] == "up-to-date"
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    load.verify_volume(cluster.alpha.socket())


def test_readiness_is_notified(make_cluster):
    """As systemd does it: NOTIFY_SOCKET gets READY=1."""
    import socket
    cluster = make_cluster()
    path = cluster.directory / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(20 * environment.slowness())
        cluster.alpha.extra_environment["NOTIFY_SOCKET"] = str(path)
        cluster.alpha.launch()
        message = notify.recv(4096).decode()
        assert "READY=1" in message.splitlines(), message
        assert cluster.alpha.ctl("version").code == 0
