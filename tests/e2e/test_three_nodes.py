# SPDX-License-Identifier: BSD-3-Clause
"""Nobody is somebody else: three nodes with keys of each two of them, and what comes of a connection
that ends at another node than it was meant for."""

import shutil

import nbd
import pytest

from lib import control, credentials, environment
from lib.node import Node
from lib.waiting import wait_for

SESSION = "0123456789abcdef0123456789abcdef"
MIB = 1024 * 1024


def problems(node):
    return "\n".join(node.ctl("check", "--json", check=False).json["problems"])


def warnings(node):
    return "\n".join(node.ctl("check", "--json", check=False).json["warnings"])


def three_nodes(make_cluster, **options):
    """alpha and beta with r0, and gamma, which has no part in it; nothing is started."""
    cluster = make_cluster(**options)
    gamma = Node("gamma", cluster.directory / "gamma", cluster.marker)
    gamma.address = f"127.0.0.1:{environment.free_ports(1)[0]}"
    cluster.gamma = gamma
    cluster.nodes = (*cluster.nodes, gamma)
    cluster.write_config()
    return cluster


def hub(make_cluster):
    """alpha mirrors r0 with beta, and n1 and n2 with gamma; all are active on alpha, and in sync."""
    cluster = three_nodes(make_cluster, volumes={"r0": {}, "n1": {}, "n2": {}})
    cluster.copy_key(cluster.alpha, cluster.gamma)
    for name in ("n1", "n2"):
        del cluster.volumes[name]["backing.beta"]
        cluster.volumes[name]["backing.gamma"] = str(cluster.gamma.directory / f"{name}.img")
    cluster.write_config()
    return cluster.start_all_active()


def row_of(table, volume):
    return next(line.split() for line in table.splitlines() if line.startswith(volume + " "))


def hand_out_keys(cluster, answer):
    """As keygen has said on alpha."""
    for name, file in answer.json["files"].items():
        shutil.move(file, getattr(cluster, name).key_file)


def with_own_keys(make_cluster, **options):
    cluster = three_nodes(make_cluster, **options)
    for node in cluster.nodes:
        node.key_file.unlink(missing_ok=True)
    hand_out_keys(cluster, cluster.alpha.ctl("keygen", "--json"))
    return cluster


def names(node):
    return [line.split(":")[0] for line in node.key_file.read_text().splitlines()
            if line and line[0] != "#"]


def dial_as(key_file, key, target, export="control"):
    """With that key of that file."""
    handle = nbd.NBD()
    handle.set_export_name(export)
    handle.set_tls(nbd.TLS_REQUIRE)
    handle.set_tls_psk_file(str(key_file))
    handle.set_tls_username(key)
    handle.connect_tcp(*target.address.rsplit(":", 1))
    return handle


def key_of(node, client, server):
    return next(name for name in names(node) if name.startswith(f"{client}+{server}+"))


def ask_as(client, target, request):
    """A request from one node to another, with the key for that."""
    handle = dial_as(client.key_file, key_of(client, client.name, target.name), target)
    try:
        return control.exchange(handle, request.encode())
    finally:
        handle.shutdown()


def test_each_two_nodes_have_keys_of_their_own(make_cluster, make_load):
    cluster = with_own_keys(make_cluster)
    for node in cluster.nodes:
        assert len(names(node)) == 4
        assert all(node.name in name.split("+")[:2] for name in names(node)), names(node)
        assert not list(node.directory.glob("cluster.psk.*"))
        assert node.key_file.stat().st_mode & 0o777 == 0o600
    cluster.start_active()
    load = make_load([cluster.alpha.socket()]).start()
    load.wait_progress()
    for node in (cluster.alpha, cluster.beta):
        checked = node.ctl("check", "--json").json
        assert not checked["warnings"], checked
        for link in checked["links"]:
            assert link["tls"]["node"] == link["to"] and link["is_current"], link
            assert link["tls"]["key"].startswith(f"{node.name}+{link['to']}+"), link
    load.stop()
    cluster.alpha.ctl("switch", "r0")
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_third_node_can_be_neither_of_the_two_others(make_cluster):
    cluster = with_own_keys(make_cluster)
    cluster.start_active()
    gamma, beta = cluster.gamma, cluster.beta
    assert ask_as(gamma, beta, '{"request":"peer-status","node":"gamma","protocol":3}')["ok"]
    requests = {
        "peer-status": '{"request":"peer-status","node":"alpha","protocol":3}',
        "handshake": '{"request":"handshake","volume":"r0","protocol":3,"settings":{},"summary":{}}',
        "session-begin": f'{{"request":"session-begin","volume":"r0","session":"{SESSION}",'
                         '"source":"alpha","resync":false,"step":0}',
        "demote": '{"request":"demote","volume":"r0"}',
    }
    for name, request in requests.items():
        reply = ask_as(gamma, beta, request)
        assert not reply["ok"] and reply["error"]["ground"] == "who", (name, reply)
    with pytest.raises(nbd.Error):
        dial_as(gamma.key_file, key_of(gamma, "gamma", "beta"), beta, f"r0@{SESSION}")
    # With the names of others' keys it does not get that far.
    forged = cluster.directory / "forged.psk"
    secret = gamma.key_file.read_text().splitlines()[-1].split(":")[1]
    stolen = key_of(cluster.alpha, "alpha", "beta")
    credentials.write_key(forged, stolen, secret)
    with pytest.raises(nbd.Error):
        dial_as(forged, stolen, beta)
    # Nor with a key that is good for the other direction, or for another node.
    for client, server in (("beta", "gamma"), ("gamma", "alpha")):
        with pytest.raises(nbd.Error):
            dial_as(gamma.key_file, key_of(gamma, client, server), beta)
    assert cluster.alpha.state() == "in-sync"


@pytest.mark.sanitizers
@pytest.mark.parametrize("keys", ["pairs", "cluster"])
def test_a_connection_that_is_reflected_begins_no_session(make_cluster, make_load, keys):
    cluster = (with_own_keys(make_cluster, proxied=True) if keys == "pairs"
               else make_cluster(proxied=True))
    cluster.start_active()
    load = make_load([cluster.alpha.socket()]).start()
    way = cluster.proxies["beta"]
    to_beta, way.target_port = way.target_port, int(cluster.alpha.listen.rsplit(":", 1)[1])
    sessions = len(cluster.alpha.events("session-started"))
    way.cut()
    way.open()
    cluster.wait_state(cluster.alpha, "broken")
    words = ("does not know the key alpha+beta+" if keys == "pairs"
             else "the mirrord at the address of beta is for node alpha")
    wait_for(lambda: words.replace("key ", "key '" if keys == "pairs" else "key ")
             in problems(cluster.alpha), "check to say where the connection ends")
    load.wait_progress()
    assert len(cluster.alpha.events("session-started")) == sessions
    way.target_port = to_beta
    way.cut()
    way.open()
    cluster.wait_in_sync(cluster.alpha)
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.parametrize("request_name", ["handshake", "session-begin"])
def test_a_node_is_not_its_own_peer(cluster, request_name):
    """With a key of the cluster the names alone hold a reflected request."""
    status = control.ask(cluster.beta, {"request": "peer-status", "node": "alpha", "protocol": 3})
    volume = status["volumes"]["r0"]
    reply = control.ask(cluster.beta, {
        "handshake": {"request": "handshake", "volume": "r0", "protocol": 3,
                      "settings": status["settings"]["r0"], "summary": volume.get("summary", volume)},
        "session-begin": {"request": "session-begin", "volume": "r0", "session": SESSION,
                          "source": "beta", "resync": False, "step": 0}}[request_name])
    assert not reply["ok"] and "beta is not the peer of beta" in reply["error"]["message"], reply
    assert cluster.alpha.state() == "in-sync"


def test_keys_of_each_two_nodes_replace_the_clusters_under_a_mirror_that_is_in_use(make_cluster,
                                                                                  make_load):
    cluster = three_nodes(make_cluster)
    cluster.copy_key(cluster.alpha, cluster.gamma)
    old = names(cluster.alpha)[0]
    cluster.start_active()
    assert "keygen --add --pairs" in warnings(cluster.alpha)
    load = make_load([cluster.alpha.socket()]).start()
    load.wait_progress()
    hand_out_keys(cluster, cluster.alpha.ctl("keygen", "--add", "--pairs", "--json"))
    wait_for(lambda: not problems(cluster.alpha), "alpha to find no problem")
    for node in cluster.nodes:
        node.ctl("keygen", "--next")
    wait_for(lambda: not problems(cluster.alpha), "alpha to find no problem")
    assert not cluster.alpha.events("mirror-break")
    for node in cluster.nodes:
        node.ctl("keygen", "--retire")
        assert old not in names(node) and len(names(node)) == 4
    # The session's, by whichever node looked first.
    wait_for(lambda: [node for node in cluster.nodes if node.events("key-retired-link-ended")],
             "the links with the old key to end")

    def all_new():
        found = cluster.alpha.ctl("check", "--json", check=False).json
        return (not found["problems"] and not found["warnings"] and len(found["links"]) >= 2
                and all(link["tls"]["node"] for link in found["links"]))
    wait_for(all_new, "all links to use the new keys")
    cluster.wait_in_sync(cluster.alpha)
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_rotation_and_the_end_of_one_nodes_keys(make_cluster):
    cluster = with_own_keys(make_cluster)
    alpha, beta, gamma = cluster.nodes
    cluster.start_active()
    answer = alpha.ctl("keygen", "--add", "--json")
    assert problems(alpha)  # the others do not have theirs yet
    for node in (beta, gamma):
        given = node.directory / "given"
        shutil.copy2(node.key_file, given)
        assert alpha.ctl("keygen", "--take", str(given), check=False).code == 1  # not for alpha
        shutil.move(answer.json["files"][node.name], given)
        node.ctl("keygen", "--take", str(given))
        assert not given.exists()
    wait_for(lambda: not problems(alpha), "alpha to find no problem")
    for step in ("--next", "--retire"):
        for node in cluster.nodes:
            node.ctl("keygen", step)
        wait_for(lambda: not problems(alpha) and not warnings(alpha) or step == "--next",
                 "alpha to find no problem")
    cluster.wait_in_sync(alpha)
    held = dial_as(gamma.key_file, key_of(gamma, "gamma", "beta"), beta)
    beta.ctl("keygen", "--remove", "gamma")

    def is_cut():
        try:
            held.pread(512, 0)
        except nbd.Error:
            return True
        return False
    wait_for(is_cut, "gamma's connection to end")
    assert "gamma" in cluster.wait_event(beta, "key-retired-link-ended")[-1]["text"]
    with pytest.raises(nbd.Error):
        dial_as(gamma.key_file, key_of(gamma, "gamma", "beta"), beta)
    assert alpha.state() == "in-sync"


def test_a_dead_node_of_a_hub_is_named_once_with_its_volumes(make_cluster):
    cluster = hub(make_cluster)
    alpha, gamma = cluster.alpha, cluster.gamma
    said = alpha.ctl("status")
    assert [row_of(said.out, name)[4] for name in ("r0", "n1", "n2")] == ["beta", "gamma", "gamma"]
    assert {node["node"]: node["reachable"] for node in alpha.ctl("status", "--json").json["nodes"]} \
        == {"beta": True, "gamma": True}
    def nodes():
        return {node["node"]: node
                for node in alpha.ctl("status", "--json", check=False).json["nodes"]}
    cluster.wait(lambda: nodes()["gamma"]["last_seen"], "alpha's mirrord to have heard of gamma")
    gamma.kill_everything()
    for name in ("n1", "n2"):
        cluster.wait_state(alpha, "broken", name)

    def is_named():
        entry = nodes()["gamma"]
        return not entry["reachable"] and entry["last_seen"] and entry["why"]
    cluster.wait(is_named, "alpha's mirrord to notice that gamma is gone")
    said = alpha.ctl("status", check=False)
    assert said.code == 1, str(said)
    about = said.out.partition("\n\n")[2]
    assert about.startswith("gamma unreachable since ") and ": n1, n2\n" in about, str(said)
    assert about.count("next") == 1 and "n1:" not in about, str(said)
    # Who asks about one of them gets its own lines, as ever.
    assert "gamma unreachable" not in alpha.ctl("status", "n1", check=False).out
    gamma.start()
    for name in cluster.volumes:
        cluster.wait_in_sync(alpha, name)
        alpha.ctl("demote", name)
    cluster.assert_replicas_equal()
    for name in ("n1", "n2"):
        assert cluster.backing(alpha, name).read_bytes() == cluster.backing(gamma, name).read_bytes()


def test_a_node_without_a_replica_names_those_that_have_one(make_cluster):
    cluster = hub(make_cluster)
    for arguments in (["status", "n1"], ["promote", "n1"], ["verify", "n1"]):
        refused = cluster.beta.ctl(*arguments, check=False)
        assert refused.code in (1, 3), str(refused)
        assert ("volume n1 has no replica on beta; it is mirrored between alpha and gamma; "
                "run mirrorctl on alpha or gamma") in refused.err, str(refused)
    for name in cluster.volumes:
        cluster.alpha.ctl("demote", name)
    cluster.assert_replicas_equal()
