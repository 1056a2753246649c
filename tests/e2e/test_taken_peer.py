# SPDX-License-Identifier: BSD-3-Clause
"""A peer that was taken over, or somebody with the cluster's key, asks for all that it could gain by:
no client loses its volume, no data are lost, and an event says who it was."""

import secrets

import nbd
import pytest

from lib import askers, control, credentials, environment, split_brain

MIB = 1024 * 1024
LOCAL = {"kind": "local", "uid": 0}
NODES = {"alpha": "beta", "beta": "alpha"}


def refused(reply, *words):
    """By who asks, in these words."""
    assert not reply["ok"], reply
    assert reply["error"].get("ground") == "who", reply
    said = reply["error"]["message"] + " " + reply["error"]["remedy"]
    for word in words:
        assert word in said, reply
    return said


def asks(node, verb, **fields):
    """As the peer of that node would, over the network."""
    return control.ask(node, {"request": verb, "volume": "r0", "node": NODES[node.name], **fields})


def last_event(node, event_id):
    events = node.events(event_id)
    assert events, f"{node.name} has no event {event_id}"
    return events[-1]


def by_network(event, node, proven=None):
    asked = event["asked_by"]
    assert asked["kind"] == "node" and asked["node"] == node, event
    assert asked["address"].startswith("127.0.0.1:"), event
    if proven is not None:
        assert asked["proven"] == proven, event
    return asked


# -- what a taken peer asks for --------------------------------------------------------------------

@pytest.mark.door
def test_no_client_loses_its_volume_to_a_message_of_the_peer(cluster, make_load):
    alpha, beta = cluster.nodes
    load = make_load([alpha.socket()], count=1024).start()
    load.wait_progress(50)
    for dry_run in (True, False):
        refused(asks(alpha, "demote", disconnect_clients=True, dry_run=dry_run),
                "alpha serves r0 to 1 client", "on alpha: mirrorctl demote r0 --disconnect-clients",
                'remote_verbs = "full"')
        refused(asks(alpha, "resolve", keep="beta", disconnect_clients=True, dry_run=dry_run),
                "alpha serves r0")
    reply = asks(alpha, "demote")
    assert not reply["ok"] and "client" in reply["error"]["message"], reply
    refused(asks(alpha, "resize", more_bytes=MIB, disconnect_clients=True), "on alpha: mirrorctl resize")
    refused(asks(alpha, "attach"))
    refused(asks(alpha, "undo-drop", id=1))
    refused(asks(alpha, "restart-engine", disconnect_clients=True))
    refused(asks(beta, "promote", force=True), "forced")
    refused(asks(beta, "promote", fenced=True), "forced")
    load.wait_progress(50)
    load.stop()
    load.assert_undisturbed()
    load.verify_volume(alpha.socket())
    assert alpha.state() == "in-sync" and not alpha.events("demoted")
    event = last_event(alpha, "request-refused")
    by_network(event, "beta")
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(alpha))


def test_a_made_up_split_brain_costs_nothing(cluster):
    """The words of a request are no proof, and neither is a summary while both replicate."""
    alpha = cluster.alpha
    split_brain.write(alpha, "answered", range(64))
    image = cluster.backing(alpha).read_bytes()
    refused(asks(alpha, "resolve", keep="beta", no_undo=True), "without an undo file",
            "on alpha: mirrorctl resolve r0 --keep beta --no-undo")
    reply = asks(alpha, "resolve", keep="beta", diverged=True,
                 summary={"node": "beta", "role": "active", "lineage": []})
    assert not reply["ok"] and "has not diverged" in reply["error"]["message"], reply
    assert alpha.state() == "in-sync"
    assert not list(alpha.meta().parent.glob("undo-*"))
    alpha.ctl("demote", "r0")
    assert cluster.backing(alpha).read_bytes() == image
    cluster.assert_replicas_equal()


@pytest.mark.door
@pytest.mark.parametrize("level", ["none", "switch", "full"])
def test_a_real_split_brain_is_not_decided_without_an_undo_file(make_cluster, level):
    """As a peer makes one that cut the link and forced its promotion."""
    cluster = make_cluster({"r0": {"remote_verbs": level}}, proxied=True).start_active()
    alpha, beta = cluster.nodes
    images = split_brain.make(cluster, range(1000, 1064), range(2000, 2064))
    client = split_brain.connect(alpha)
    refused(asks(alpha, "resolve", keep="beta", no_undo=True, disconnect_clients=True))
    refused(asks(alpha, "resolve", keep="beta", no_undo=True))
    if level != "full":
        refused(asks(alpha, "resolve", keep="beta", disconnect_clients=True))
    client.pread(4096, 0)
    for node in cluster.nodes:
        assert node.state() == "diverged"
        assert cluster.backing(node).read_bytes() == images[node.name]
        assert not list(node.meta().parent.glob("undo-*"))
    if level != "full":
        client.shutdown()
    if level == "none":
        refused(asks(alpha, "resolve", keep="beta"), 'remote_verbs = "none"')
        assert cluster.backing(alpha).read_bytes() == images["alpha"]
        alpha.ctl("resolve", "r0", "--keep", "beta", "--yes")
    else:
        reply = asks(alpha, "resolve", keep="beta", disconnect_clients=True)
        assert reply["ok"], reply
        by_network(last_event(alpha, "resolved"), "beta")
        by_network(last_event(alpha, "demoted"), "beta")
    del client
    cluster.wait_in_sync(beta)
    beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    copy = cluster.directory / "copy"
    copy.write_bytes(images["beta"])
    alpha.ctl("undo", "r0", "--export", copy, "--over", "--id", "1")
    assert copy.read_bytes() == images["alpha"], "what alpha alone had is not all in the undo file"


@pytest.mark.parametrize("insists", [False, True])
def test_a_backing_with_data_is_not_overwritten_for_the_peer(make_cluster, insists):
    cluster = make_cluster().start()
    alpha, beta = cluster.nodes
    for node in cluster.nodes:
        cluster.backing(node).write_bytes(f"precious of {node.name}".encode() + bytes(64 * MIB - 32))
        with open(cluster.backing(node), "ab") as file:
            file.truncate(64 * MIB)
        cluster.backing(node).chmod(0o600)
    image = cluster.backing(beta).read_bytes()
    words = ["--from-empty"] if insists else []
    said = alpha.ctl("create", "r0", "--overwrite-peer", "--yes", *words, check=False)
    assert said.code == 1, str(said)
    for word in ("lets only its own users discard it", "mirrorctl create r0 --local-only on alpha",
                 "on beta: mirrorctl create r0 --replace", 'remote_verbs = "full"'):
        assert word in said.err, str(said)
    assert cluster.backing(beta).read_bytes() == image
    assert not beta.meta().exists()
    by_network(last_event(beta, "request-refused"), "alpha")
    # As the refusal says.
    alpha.ctl("create", "r0", "--local-only")
    beta.ctl("create", "r0", "--replace", "--yes")
    alpha.ctl("promote", "r0")
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    assert cluster.backing(beta).read_bytes().startswith(b"precious of alpha")


# -- somebody with the key -------------------------------------------------------------------------

def test_who_has_the_key_can_not_take_the_session_of_a_standby(cluster):
    """Again and again, as the standby would take the newest session."""
    alpha, beta = cluster.nodes
    if beta.tls == "x509":
        pytest.skip("the certificate proves which node that is")
    split_brain.write(alpha, "answered", range(64))
    started = len(alpha.events("session-started"))
    for _ in range(5):
        session = secrets.token_hex(16)
        begin = {"request": "session-begin", "volume": "r0", "source": "alpha", "session": session,
                 "resync": False, "step": 1000}
        reply = control.ask(beta, begin)
        assert not reply["ok"], reply
        refused(reply, "as alpha, which did not begin it")
        for export in (f"r0@{session}", f"r0/frames@{session}", f"r0/digest@{session}"):
            assert askers.why_not_open(beta.door, export)
    split_brain.write(alpha, "after", range(64, 128))
    assert alpha.state() == "in-sync"
    assert len(alpha.events("session-started")) == started, "the session was disturbed"
    by_network(last_event(beta, "request-refused"), "alpha", proven=False)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_who_has_the_key_reads_no_more_at_once_than_an_engine_would(cluster):
    """Each reply that nobody takes stays in the standby's memory."""
    alpha, beta = cluster.nodes
    alpha.kill_everything()
    session = secrets.token_hex(16)
    reply = control.ask(beta, {"request": "session-begin", "volume": "r0", "source": "alpha",
                               "session": session, "resync": False, "step": 2})
    assert reply["ok"], reply
    handle = askers.open_export(beta.door, f"r0@{session}")
    assert len(handle.pread(2 * MIB, 0)) == 2 * MIB
    with pytest.raises(nbd.Error) as refusal:
        handle.pread(2 * MIB + 4096, 0)
    assert refusal.value.errno == "EINVAL", refusal.value
    assert len(handle.pread(4096, 0)) == 4096, "the connection is of use still"
    handle.shutdown()
    alpha.start()
    cluster.resume(alpha)
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_nobody_of_three_nodes_writes_to_a_standby_whose_active_node_is_gone(make_cluster):
    """Then nobody confirms a session: what a person promotes is what the active node wrote."""
    cluster = make_cluster()
    third = f'[node.gamma]\naddress = "127.0.0.1:{environment.free_ports(1)[0]}"\n'
    cluster.write_config(f"{cluster.config_text()}\n{third}")
    alpha, beta = cluster.start_active().nodes
    if beta.tls == "x509":
        pytest.skip("the certificate proves which node that is")
    split_brain.write(alpha, "answered", range(64))
    image = cluster.backing(beta).read_bytes()
    alpha.kill_everything()
    session = secrets.token_hex(16)
    reply = control.ask(beta, {"request": "session-begin", "volume": "r0", "source": "alpha",
                               "session": session, "resync": True, "step": 1000})
    assert not reply["ok"] and "alpha does not confirm it" in reply["error"]["message"], reply
    assert askers.why_not_open(beta.door, f"r0@{session}")
    assert cluster.backing(beta).read_bytes() == image
    alpha.start()
    cluster.resume(alpha)
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


# -- the planned switch ----------------------------------------------------------------------------

def test_a_switch_typed_on_the_standby_works_and_leaves_clients_their_volume(cluster):
    alpha, beta = cluster.nodes
    client = split_brain.connect(alpha)
    for words in ([], ["--dry-run"]):
        said = beta.ctl("switch", "r0", "--to", "beta", "--disconnect-clients", *words, check=False)
        assert said.code == 1, str(said)
        assert "on alpha: mirrorctl switch r0 --to beta --disconnect-clients" in said.err, str(said)
        assert 'remote_verbs = "full"' in said.err, str(said)
        client.pread(4096, 0)
    client.shutdown()
    beta.ctl("switch", "r0", "--disconnect-clients")
    assert cluster.active() is beta
    cluster.wait_in_sync(beta)
    alpha.ctl("switch", "r0")
    assert cluster.active() is alpha
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_with_full_the_other_node_may_cut_off_clients(make_cluster):
    cluster = make_cluster({"r0": {"remote_verbs": "full"}}).start_active()
    client = split_brain.connect(cluster.alpha)
    cluster.beta.ctl("switch", "r0", "--disconnect-clients")
    del client
    assert cluster.active() is cluster.beta
    cluster.wait_in_sync(cluster.beta)
    cluster.alpha.ctl("resize", "r0", "+1MiB")
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_veto_of_one_node(make_cluster):
    cluster = make_cluster({"r0": {"remote_verbs": "full"}})
    cluster.write_config(cluster.config_text().replace(
        "[node.alpha]", '[node.alpha]\nremote_verbs = "none"'))
    cluster.start_active()
    alpha, beta = cluster.nodes
    said = beta.ctl("switch", "r0", check=False)
    assert said.code == 1 and 'remote_verbs = "none"' in said.err, str(said)
    assert "on alpha: mirrorctl demote r0" in said.err, str(said)
    for verb in ("demote", "connect", "disconnect", "resync", "verify"):
        refused(asks(alpha, verb), 'remote_verbs = "none"', f"on alpha: mirrorctl {verb} r0")
    assert cluster.active() is alpha and alpha.state() == "in-sync"
    # Its own users do as they like, and so does the other node.
    alpha.ctl("switch", "r0")
    cluster.wait_in_sync(beta)
    refused(asks(alpha, "promote"), 'remote_verbs = "none"')
    beta.ctl("demote", "r0")
    alpha.ctl("promote", "r0")
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


# -- who did it ------------------------------------------------------------------------------------

def test_each_event_of_a_verb_says_who_asked(cluster):
    alpha, beta = cluster.nodes

    def check(node, event_id, text):
        event = last_event(node, event_id)
        assert event["asked_by"] == LOCAL, event
        assert text in event["text"] + event["cause"], event

    check(alpha, "created", "r0")
    check(alpha, "promoted", "r0")
    for verb in ("disconnect", "connect", "resync", "verify"):
        alpha.ctl(verb, "r0")
        check(alpha, "verb-accepted", verb)
        if verb in ("connect", "resync"):
            cluster.wait_in_sync(alpha)
    alpha.ctl("verify", "r0", "--wait", "--rate", "0")
    alpha.ctl("restart-engine", "r0")
    check(alpha, "engine-replaced", "")
    cluster.wait_in_sync(alpha)
    alpha.ctl("resize", "r0", "+1MiB")
    check(alpha, "resized", "r0")
    cluster.wait_in_sync(alpha)
    alpha.ctl("switch", "r0")
    check(alpha, "switch-done", "r0")
    check(alpha, "demoted", "r0")
    cluster.wait_in_sync(beta)
    asked = by_network(last_event(beta, "promoted"), "alpha", proven=beta.tls == "x509")
    assert asked["for_uid"] == 0, asked
    beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_each_event_of_a_verb_that_loses_data_says_who_asked(make_cluster):
    cluster = make_cluster(proxied=True).start_active()
    alpha, beta = cluster.nodes
    split_brain.make(cluster, range(1000, 1064), range(2000, 2064))
    beta.ctl("resolve", "r0", "--keep", "beta", "--yes")
    asked = by_network(last_event(alpha, "resolved"), "beta")
    assert asked["for_uid"] == 0, asked
    cluster.wait_in_sync(beta)
    alpha.ctl("undo", "r0", "--drop", "--yes")
    assert last_event(alpha, "undo-dropped")["asked_by"] == LOCAL
    beta.kill_everything()
    alpha.ctl("promote", "r0", "--force")
    assert last_event(alpha, "promoted")["asked_by"] == LOCAL
    beta.start()
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_replica_that_is_made_again_says_who_asked(cluster):
    alpha, beta = cluster.nodes
    beta.stop()
    beta.meta().unlink()
    beta.start()
    beta.ctl("create", "r0", "--replace", "--yes")
    assert last_event(beta, "replica-replaced")["asked_by"] == LOCAL
    cluster.wait_in_sync(alpha)
    alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_what_nobody_asked_for_has_no_asker(cluster):
    cluster.alpha.kill_engine()
    cluster.wait_event(cluster.alpha, "engine-restarted")
    assert "asked_by" not in last_event(cluster.alpha, "engine-restarted")
    assert "asked_by" not in last_event(cluster.alpha, "daemon-started")


def test_a_standby_says_who_took_its_session(cluster):
    alpha, beta = cluster.nodes
    accepted = beta.events("session-accepted")
    assert accepted and "alpha now writes to the replica of r0 on beta" in accepted[-1]["text"], accepted
    asked = by_network(accepted[-1], "alpha", proven=beta.tls == "x509")
    if beta.tls == "psk":
        assert asked["key"] == credentials.key_name(alpha.key_file), asked
    assert "asked by: alpha" in beta.ctl("events", "r0").out
    shown = alpha.ctl("events", "r0").out
    assert "asked by: uid 0" in shown, shown
    assert '"asked_by"' in alpha.ctl("events", "r0", "--json").out
    before = len(accepted)
    alpha.ctl("disconnect", "r0")
    alpha.ctl("connect", "r0")
    cluster.wait_in_sync(alpha)
    assert len(beta.events("session-accepted")) == before + 1


# -- words that move a cursor ----------------------------------------------------------------------

def test_a_peers_words_do_not_steer_a_terminal(cluster):
    hostile = "x\u009b2J\u202ey\u001b[31m"
    control.ask(cluster.alpha, {"request": "session-begin", "volume": "r0", "source": hostile})
    control.ask(cluster.alpha, {"request": "peer-status", "protocol": 3, "node": hostile})
    cluster.wait_event(cluster.alpha, "request-refused")
    log = cluster.alpha.log.read_bytes().decode("utf-8")
    shown = cluster.alpha.ctl("events").out + cluster.alpha.ctl("events", "--json").out
    stored = (cluster.alpha.state_dir / "events.jsonl").read_text(encoding="utf-8")
    for text in (log, shown, stored):
        assert "2J" in text
        for letter in "\u009b\u202e\u001b":
            assert letter not in text, repr(text)
