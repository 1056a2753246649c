# SPDX-License-Identifier: BSD-3-Clause
"""Backings, peers and metadata that are not what they should be."""

import fcntl
import os
import secrets

import nbd
import pytest

from lib import control

MIB = 1024 * 1024


def refused(outcome, *words):
    assert outcome.code == 1, str(outcome)
    for word in words:
        assert str(word) in outcome.err, f"'{word}' is not in\n{outcome}"


def put(path, content):
    """A backing that is there before `create`, as it should be: for its owner alone."""
    path.touch(0o600)
    path.write_bytes(content)


# -- backings --------------------------------------------------------------------------------------

@pytest.mark.parametrize("which", ["alpha", "beta"])
def test_a_backing_of_the_wrong_size(make_cluster, which):
    cluster = make_cluster().start()
    path = cluster.backing(getattr(cluster, which))
    put(path, b"precious" + bytes(3 * MIB))
    refused(cluster.alpha.ctl("create", "r0", check=False), path, "size", which)
    assert path.read_bytes().startswith(b"precious")
    for node in cluster.nodes:
        assert not node.meta().exists(), node.name
    other = cluster.backing(cluster.other(getattr(cluster, which)))
    assert not other.exists()


def test_a_backing_that_shrank_after_its_creation(cluster):
    cluster.alpha.ctl("demote", "r0")
    os.truncate(cluster.backing(cluster.alpha), MIB)
    refused(cluster.alpha.ctl("promote", "r0", check=False), cluster.backing(cluster.alpha))
    assert cluster.active() is None


@pytest.mark.parametrize("which", ["alpha", "beta"])
def test_a_backing_in_use_by_another_process(make_cluster, which):
    cluster = make_cluster().start()
    path = cluster.backing(getattr(cluster, which))
    put(path, b"")
    with open(path, "r+b") as file:
        file.truncate(64 * MIB)
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(cluster.alpha.ctl("create", "r0", check=False), path, "use", which)
    cluster.alpha.ctl("create", "r0")


def test_a_backing_in_a_directory_that_is_not_there(make_cluster):
    cluster = make_cluster()
    cluster.volumes["r0"]["backing.beta"] = str(cluster.directory / "missing" / "r0.img")
    cluster.write_config()
    cluster.start()
    refused(cluster.alpha.ctl("create", "r0", check=False), "missing/r0.img", "beta")
    assert not cluster.alpha.meta().exists()


def test_a_volume_that_exists_already(cluster, make_load):
    load = make_load([cluster.alpha.socket()], count=1024).start()
    load.stop()
    for node in cluster.nodes:
        refused(node.ctl("create", "r0", check=False), "r0", "exists")
    load.verify_volume(cluster.alpha.socket())
    assert cluster.alpha.state() == "in-sync"


def test_a_peer_whose_data_would_be_overwritten(make_cluster):
    cluster = make_cluster({"r0": {"remote_verbs": "full"}}).start()
    path = cluster.backing(cluster.beta)
    put(path, b"precious" + bytes(64 * MIB - 8))
    refused(cluster.alpha.ctl("create", "r0", check=False), "beta", path, "--overwrite-peer")
    assert path.read_bytes().startswith(b"precious")


@pytest.mark.parametrize("zeroes", ["absent", "sparse", "written"])
def test_an_empty_side_does_not_overwrite_the_peers_data_by_mistake(make_cluster, zeroes):
    """Typed on the wrong node: alpha has nothing, beta has the data."""
    cluster = make_cluster({"r0": {"remote_verbs": "full"}}).start()
    alpha, beta = cluster.nodes
    path = cluster.backing(beta)
    put(path, b"precious" + bytes(64 * MIB - 8))
    if zeroes != "absent":
        put(cluster.backing(alpha), b"")
        with open(cluster.backing(alpha), "r+b") as file:
            file.write(bytes(64 * MIB if zeroes == "written" else 0))
            file.truncate(64 * MIB)
    for option in ("--dry-run", "--yes", "--json"):
        refused(alpha.ctl("create", "r0", "--overwrite-peer", option, check=False),
                "alpha looks empty", "zeroes", path, "on beta: mirrorctl create r0", "--from-empty")
    assert path.read_bytes().startswith(b"precious")
    plan = alpha.ctl("create", "r0", "--overwrite-peer", "--from-empty", "--dry-run", "--json").json
    assert str(path) in plan["loss"] and "overwritten" in plan["loss"]
    assert plan["overwrites"] == [{"node": "beta", "backing": str(path), "looks_empty": False,
                                   "data_bytes": plan["overwrites"][0]["data_bytes"]}]
    assert plan["source"]["node"] == "alpha" and plan["source"]["looks_empty"]
    assert path.read_bytes().startswith(b"precious")
    # As the refusal says.
    beta.ctl("create", "r0", *([] if zeroes != "written" else ["--overwrite-peer"]))
    beta.ctl("promote", "r0")
    cluster.wait_in_sync(beta)
    assert cluster.backing(alpha).read_bytes().startswith(b"precious")


def test_what_overwriting_the_peer_destroys_is_said_before(make_cluster):
    cluster = make_cluster({"r0": {"remote_verbs": "full"}}).start()
    for node in cluster.nodes:
        put(cluster.backing(node), node.name.encode() + bytes(64 * MIB - len(node.name)))
    plan = cluster.alpha.ctl("create", "r0", "--overwrite-peer", "--dry-run").out
    assert f"overwrite {cluster.backing(cluster.beta)} on beta with the data of alpha" in plan, plan
    assert f"loss:  64 MiB in {cluster.backing(cluster.beta)} on beta is overwritten" in plan, plan
    cluster.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    assert cluster.backing(cluster.beta).read_bytes().startswith(b"alpha")


# -- reasons ---------------------------------------------------------------------------------------

def test_a_peer_that_answers_without_a_replica_is_not_called_unreachable(make_cluster):
    cluster = make_cluster().start()
    cluster.alpha.ctl("create", "r0", "--local-only")
    cluster.alpha.ctl("promote", "r0")
    def told():
        status = cluster.alpha.status()
        assert "beta answers, but has no usable replica of r0" in status["why"], status["why"]
        return status["advice"] == "on beta: mirrorctl create r0"
    cluster.wait(told, "the reason")
    assert "on beta: mirrorctl create r0" in cluster.alpha.ctl("status", "r0", check=False).out
    cluster.alpha.ctl("demote", "r0")
    plan = cluster.alpha.ctl("promote", "r0", "--dry-run").out
    assert "beta answers, but has no usable replica of r0: r0 has not been created on beta yet" in plan


def test_a_node_that_was_renamed_is_not_sent_to_its_disk(make_cluster):
    cluster = make_cluster().start().create()
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    cluster.beta.stop()
    text = cluster.config_text().replace("beta]", "gamma]").replace("backing.beta", "backing.gamma")
    cluster.beta.config.write_text(text, encoding="utf-8")
    cluster.beta.name = "gamma"
    cluster.beta.start()
    status = cluster.beta.status()
    assert status["state"] == "failed" and "on node beta" in status["why"]
    assert "name the node beta again" in status["advice"] and "repair" not in status["advice"]
    cluster.beta.name = "beta"


# -- peers -----------------------------------------------------------------------------------------

def test_a_peer_with_another_volume_under_the_name(make_cluster):
    cluster = make_cluster().start()
    for node in cluster.nodes:
        node.ctl("create", "r0", "--local-only")
    cluster.alpha.ctl("promote", "r0", "--force")

    def said():
        why = cluster.alpha.status()["why"]
        assert "beta" in why and "not replicas of one volume" in why, why
        return True
    cluster.wait(said, "alpha to say that beta has another volume")
    assert cluster.alpha.state() != "in-sync"


@pytest.mark.parametrize("key, value", [("peer_timeout", "9s"), ("on_peer_loss", "stop")])
def test_a_peer_with_another_config(make_cluster, key, value):
    cluster = make_cluster()
    cluster.beta.config.write_text(cluster.config_text(r0={key: value}), encoding="utf-8")
    cluster.start()
    refused(cluster.alpha.ctl("create", "r0", check=False), "beta", key)
    outcome = cluster.alpha.ctl("check", check=False)
    assert outcome.code == 1 and key in outcome.out + outcome.err, str(outcome)


def test_a_config_that_changes_under_a_mirror_breaks_it_with_the_reason(cluster):
    cluster.beta.config.write_text(cluster.config_text(r0={"on_peer_loss": "stop"}),
                                   encoding="utf-8")
    cluster.beta.stop()
    cluster.beta.start()

    def said():
        assert "on_peer_loss" in cluster.alpha.status()["why"], cluster.alpha.status()["why"]
        return True
    cluster.wait(said, "alpha to name the setting")
    cluster.beta.config.write_text(cluster.config_text(), encoding="utf-8")
    cluster.beta.stop()
    cluster.beta.start()
    cluster.wait_in_sync(cluster.alpha)


def test_a_peer_with_another_size(make_cluster):
    cluster = make_cluster()
    cluster.beta.config.write_text(cluster.config_text(r0={"size": "32MiB"}), encoding="utf-8")
    cluster.start()
    refused(cluster.alpha.ctl("create", "r0", check=False), "beta", "size")
    for node in cluster.nodes:
        assert not node.meta().exists()


def test_a_peer_with_another_protocol(cluster):
    for request in ({"request": "peer-status", "node": "alpha", "protocol": 99},
                    {"request": "handshake", "volume": "r0", "protocol": 99, "settings": {},
                     "summary": {}}):
        reply = control.ask(cluster.beta, request)
        assert not reply["ok"], reply
        assert "99" in reply["error"]["message"] and "protocol" in reply["error"]["message"], reply
    assert cluster.alpha.state() == "in-sync"


@pytest.mark.sanitizers
def test_nonsense_in_the_mailbox_gets_an_answer(cluster):
    payloads = [b"", b"{", b"[]", b"7", b"null", b'"x"', b"{}", b'{"request": 5}',
                b'{"request": "no-such"}', b'{"request": "handshake"}',
                b'{"request": "handshake", "volume": 3, "protocol": "x"}',
                b'{"request": "session-begin", "volume": "r0", "session": "zz"}',
                b'{"request": "session-begin", "volume": "nope", "session": "' + b"0" * 32 + b'"}',
                b'{"request": "agree", "volume": "r0", "node": "alpha", "summary": []}',
                b'{"request": "create-replica", "volume": "../../x", "size": -1}',
                b'{"request": "session-synced", "volume": "r0", "session": "", "lineage": 1}',
                b"[" * 100000, b"\xff\xfe" * 1000, b'{"request": "' + b"a" * 500000 + b'"}',
                secrets.token_bytes(4096).replace(b"\0", b"x")]
    for where in (cluster.beta, cluster.alpha, cluster.alpha.run_dir / "mirrord.sock",
                  cluster.alpha.control_socket()):
        for payload in payloads:
            handle = control.dial(where)
            try:
                reply = control.exchange(handle, payload)
            except nbd.Error:
                continue  # refused as an NBD request: clear enough
            assert reply["ok"] is False, (payload[:60], reply)
            assert reply["error"]["message"], (payload[:60], reply)
            handle.shutdown()
    assert cluster.alpha.state() == "in-sync"


def test_only_peer_requests_are_served_over_tcp(cluster):
    for request in ("promote", "demote", "create"):
        reply = control.ask(cluster.alpha, {"request": request, "volume": "r0",
                                                    "force": True, "disconnect_clients": True})
        assert not reply["ok"] or request in ("promote", "demote"), reply
    for request in ("create", "status", "attach"):
        reply = control.ask(cluster.alpha, {"request": request, "volume": "r0"})
        assert not reply["ok"], reply


def test_a_data_export_without_a_session_is_refused(cluster):
    for name in ("r0", "r0@", "r0@" + "0" * 32, "r0@" + secrets.token_hex(16), "r0@x", "", "nope",
                 "r0/digest@" + secrets.token_hex(16), "x" * 4000):
        with pytest.raises(nbd.Error):
            control.dial(cluster.beta, name)
    assert cluster.alpha.state() == "in-sync"


def test_an_old_session_is_fenced_off_by_a_new_one(cluster):
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.stop()
    handles = []
    for _ in range(2):
        session = secrets.token_hex(16)
        reply = control.ask(cluster.beta.run_dir / "mirrord.sock",
                            {"request": "session-begin", "volume": "r0", "session": session,
                             "source": "alpha", "resync": True, "step": 100})
        assert reply["ok"], reply
        handles.append(control.dial(cluster.beta, f"r0@{session}"))
    old, new = handles
    with pytest.raises(nbd.Error):
        old.pwrite(b"late" * 128, 0)
    new.pwrite(b"fine" * 128, 0)
    assert cluster.backing(cluster.beta).read_bytes()[:4] == b"fine"
    new.shutdown()


# -- metadata --------------------------------------------------------------------------------------

def cut_short(path, rng):
    del rng
    os.truncate(path, 100)


def emptied(path, rng):
    del rng
    os.truncate(path, 0)


def garbled(path, rng):
    with open(path, "r+b") as file:
        file.write(rng.randbytes(16384))


@pytest.mark.parametrize("damage", [cut_short, emptied, garbled])
def test_metadata_that_is_damaged_is_refused_by_name(cluster, rng, damage):
    """Without its superblock a replica says nothing; the other one goes on."""
    cluster.alpha.ctl("demote", "r0")
    cluster.beta.stop()
    damage(cluster.beta.meta(), rng)
    before = cluster.beta.meta().read_bytes()
    cluster.beta.start()
    assert cluster.beta.state() == "failed"
    assert str(cluster.beta.meta()) in cluster.beta.status()["why"]
    refused(cluster.beta.ctl("promote", "r0", "--force", check=False), cluster.beta.meta())
    assert cluster.beta.meta().read_bytes() == before
    cluster.alpha.ctl("promote", "r0")
    assert cluster.active() is cluster.alpha


def test_one_damaged_superblock_costs_nothing(cluster, make_load, rng):
    load = make_load([cluster.alpha.socket()], count=1024).start()
    load.stop()
    cluster.alpha.ctl("demote", "r0")
    for node in cluster.nodes:
        node.stop()
        with open(node.meta(), "r+b") as file:
            newer = max((0, 8192), key=lambda at: os.pread(file.fileno(), 64, at))
            file.seek(8192 - newer)
            file.write(rng.randbytes(512))
        node.start()
    for node in cluster.nodes:
        assert node.status()["replica"]["state"] in ("up-to-date", "stale"), node.status()


@pytest.mark.door
def test_garbled_maps_count_as_all_ones(cluster, make_load, rng):
    load = make_load([cluster.alpha.socket()], count=4096).start()
    load.wait_progress()
    cluster.alpha.kill_everything()
    load.abandon()
    size = cluster.alpha.meta().stat().st_size
    with open(cluster.alpha.meta(), "r+b") as file:
        file.seek(65536)
        file.write(rng.randbytes(max(512, size - 65536)))
    with open(cluster.backing(cluster.beta), "r+b") as image:
        image.seek(40 * MIB)
        image.write(b"a difference that only a map of all ones finds")
    cluster.resume(cluster.alpha)
    cluster.wait_in_sync(cluster.alpha)
    cluster.assert_replicas_equal()
    load.verify_volume(cluster.alpha.socket())
