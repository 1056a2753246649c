# SPDX-License-Identifier: BSD-3-Clause
"""Who may be a node: keys, certificates, their rotation, and what others get to see."""

import re
import struct

import pytest

import nbd
from lib import control, credentials
from lib.waiting import wait_for
from test_hostile import connect, option

MIB = 1024 * 1024


def links(node):
    return node.ctl("check", "--json", check=False).json["links"]


def problems(node):
    return "\n".join(node.ctl("check", "--json", check=False).json["problems"])


def keys_in_use(cluster, node):
    return {link["tls"]["key"] for link in links(node)}


def write_and_compare(cluster, node, rng):
    data = rng.randbytes(MIB)
    handle = nbd.NBD()
    handle.connect_unix(str(node.socket()))
    handle.pwrite(data, 4 * MIB)
    handle.flush()
    handle.shutdown()
    cluster.wait_in_sync(node)
    node.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    assert cluster.backing(cluster.other(node)).read_bytes()[4 * MIB:5 * MIB] == data


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.parametrize("tls", ["psk", "x509", "off"])
def test_a_mirror_lives_through_a_switch_and_a_crash(make_cluster, make_load, rng, tls):
    cluster = make_cluster(tls=tls).start_active()
    load = make_load([node.socket() for node in cluster.nodes]).start()
    load.wait_progress()
    cluster.alpha.ctl("switch", "r0", "--disconnect-clients")
    load.wait_progress()
    cluster.wait_in_sync(cluster.beta)
    cluster.beta.kill_engine()
    load.wait_progress()
    load.stop()
    cluster.wait_in_sync(cluster.beta)
    shown = [link["tls"] for link in links(cluster.beta)]
    assert len(shown) == 2, shown
    for link in shown:
        if tls == "off":
            assert link is None
        elif tls == "psk":
            assert link["key"] == credentials.key_name(cluster.beta.key_file), link
        else:
            assert link["certificate"] == "alpha", link
    write_and_compare(cluster, cluster.beta, rng)


@pytest.mark.door
def test_nothing_readable_crosses_the_network(make_cluster, rng):
    cluster = make_cluster(proxied=True).start_active()
    secret = b"the one thing that nobody may read" * 8
    link = cluster.proxies["beta"]
    link.garble(secret[:32])  # flips a bit of it wherever it is seen
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    handle.pwrite(secret + rng.randbytes(512), 0)
    handle.flush()
    handle.shutdown()
    assert link.flips == 0
    assert cluster.alpha.state() == "in-sync"
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    assert cluster.backing(cluster.beta).read_bytes().startswith(secret)


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(300)
def test_flipped_bits_are_noticed_by_tls_too(make_cluster, make_load, seed):
    cluster = make_cluster(proxied=True).start_active()
    load = make_load([cluster.alpha.socket()]).start()
    link = cluster.proxies["beta"]
    link.flip(seed, forward=512 * 1024, backward=48 * 1024)

    def enough():
        load.wait_progress(1)
        return link.flips >= 6 and len(cluster.alpha.events("mirror-break")) >= 3
    cluster.wait(enough, "the link to have broken three times for flipped bits", timeout=150)
    link.calm()
    cluster.wait_in_sync(cluster.alpha)
    load.stop()
    load.assert_undisturbed()
    load.verify_volume(cluster.alpha.socket())
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


def test_a_stranger_learns_nothing_but_that_tls_is_required(cluster):
    for number, data in ((7, struct.pack(">I", 7) + b"control\0\0"), (3, b""), (8, b""),
                         (6, struct.pack(">I", 10) + b"r0/changes\0\0")):
        stranger = connect(cluster.beta.address)
        stranger.sendall(struct.pack(">I", 3) + option(number, data))
        assert stranger.recv(18).startswith(b"NBDMAGIC")
        reply = stranger.recv(1000)
        assert reply[8:16] == struct.pack(">II", number, 0x80000005), reply
        assert reply.endswith(b"TLS is required here"), reply
        stranger.close()


@pytest.mark.parametrize("name, secret", [(None, None), ("other", "same")])
def test_another_key_is_refused_and_the_administrator_told(cluster, tmp_path, name, secret):
    ours = cluster.beta.key_file.read_text().strip().split(":")
    forged = tmp_path / "forged.psk"
    credentials.write_key(forged, name or ours[0], ours[1] if secret else None)
    handle = nbd.NBD()
    handle.set_export_name("control")
    credentials.show(handle, cluster.beta, forged)
    with pytest.raises(nbd.Error):
        handle.connect_tcp(*cluster.beta.address.rsplit(":", 1))
    event = cluster.wait_event(cluster.beta, "stranger-refused")[0]
    assert "127.0.0.1" in event["text"]
    assert cluster.alpha.state() == "in-sync"


def test_nodes_with_different_keys_say_so(make_cluster):
    cluster = make_cluster()
    credentials.write_key(cluster.beta.key_file)
    cluster.start()
    outcome = cluster.alpha.ctl("create", "r0", check=False)
    assert outcome.code != 0
    assert credentials.key_name(cluster.alpha.key_file) in outcome.err, str(outcome)
    assert "same file of keys" in problems(cluster.alpha)
    cluster.copy_key(cluster.alpha, cluster.beta)  # read anew: no restart
    wait_for(lambda: not problems(cluster.alpha), "alpha to find no problem")
    cluster.create()


def test_a_missing_key_is_named_on_both_nodes(make_cluster):
    cluster = make_cluster()
    cluster.beta.key_file.unlink()
    cluster.start()
    assert "keygen" in problems(cluster.beta) and str(cluster.beta.key_file) in problems(cluster.beta)
    assert "beta" in problems(cluster.alpha)
    assert str(cluster.beta.key_file) not in problems(cluster.alpha)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_keeps_nobody_in(make_cluster, mode):
    cluster = make_cluster().start()
    cluster.beta.key_file.chmod(mode)
    assert "chmod 600" in problems(cluster.beta)
    assert cluster.alpha.ctl("create", "r0", check=False).code != 0
    cluster.beta.key_file.chmod(0o600)
    cluster.create()


@pytest.mark.door
def test_the_key_is_changed_under_a_mirror_that_is_in_use(cluster, make_load):
    load = make_load([cluster.alpha.socket()]).start()
    old = credentials.key_name(cluster.alpha.key_file)
    new = cluster.alpha.ctl("keygen", "--add", "--json").json["keys"][1]
    assert new in problems(cluster.alpha)  # beta does not have it yet
    cluster.copy_key(cluster.alpha, cluster.beta)
    wait_for(lambda: not problems(cluster.alpha), "both to have the same keys")
    cluster.alpha.ctl("keygen", "--next")
    cluster.copy_key(cluster.alpha, cluster.beta)
    wait_for(lambda: keys_in_use(cluster, cluster.alpha) == {old, new},
             "mirrord to use the new key, while the session goes on with the old one")
    assert not cluster.alpha.events("mirror-break")
    cluster.alpha.ctl("restart-engine", "r0", "--disconnect-clients", check=False)
    cluster.alpha.ctl("keygen", "--retire")
    cluster.copy_key(cluster.alpha, cluster.beta)
    wait_for(lambda: keys_in_use(cluster, cluster.alpha) == {new}, "all links to use the new key")
    cluster.wait_in_sync(cluster.alpha)
    assert cluster.alpha.ctl("check").code == 0
    load.abandon()
    load.verify_volume(cluster.alpha.socket())
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_who_has_only_a_retired_key_is_cut_off(cluster):
    handle = control.dial(cluster.beta)
    for step in ("--add", "--next", "--retire"):
        cluster.alpha.ctl("keygen", step)
        cluster.copy_key(cluster.alpha, cluster.beta)

    def is_cut():
        try:
            handle.pread(512, 0)
        except nbd.Error:
            return True
        return False
    wait_for(is_cut, "the old connection to end")
    cluster.wait_in_sync(cluster.alpha)


def test_keygen_loses_no_key_and_says_what_is_next(make_cluster):
    cluster = make_cluster()
    node = cluster.alpha
    before = node.key_file.read_bytes()
    for arguments, word in ((["keygen"], "--add"), (["keygen", "--next"], "--add"),
                            (["keygen", "--retire"], "--add")):
        outcome = node.ctl(*arguments, check=False)
        assert outcome.code == 1 and word in outcome.err, str(outcome)
    assert node.ctl("keygen", "--add", "--next", check=False).code == 2
    node.ctl("keygen", "--add", "--dry-run")
    assert node.key_file.read_bytes() == before
    node.key_file.unlink()
    outcome = node.ctl("keygen")
    assert re.search(r"scp -p \S+cluster\.psk 127\.0\.0\.1", outcome.out), str(outcome)
    assert node.key_file.stat().st_mode & 0o777 == 0o600
    secret = node.key_file.read_text().splitlines()[-1].split(":")[1]
    assert len(secret) == 64 and secret not in outcome.out


# -- certificates ----------------------------------------------------------------------------------

def x509_cluster(make_cluster, **beta):
    """beta's certificate as told; alpha's is good."""
    cluster = make_cluster(tls="x509")
    authority = credentials.Authority(cluster.directory / "ca2") if beta.pop("foreign", False) else None
    folder = cluster.beta.directory / "x509"
    if authority:
        authority.sign(folder, "beta")
        (folder / "ca-cert.pem").write_bytes(
            (cluster.alpha.directory / "x509" / "ca-cert.pem").read_bytes())
    elif beta:
        again = credentials.Authority(cluster.directory / "ca3")
        for node in cluster.nodes:
            again.sign(node.directory / "x509", node.name, **(beta if node.name == "beta" else {}))
    return cluster.start()


@pytest.mark.parametrize("fault, words", [
    ({"foreign": True}, "not"), ({"name": "gamma"}, "not for beta"), ({"expired": True}, "expired"),
    ({"purposes": ("client",)}, "not accepted"), ({"name": "alpha"}, "not for beta")],
    ids=["another CA", "another name", "expired", "no server", "our own name"])
def test_a_certificate_that_is_not_the_peers_is_refused(make_cluster, fault, words):
    cluster = x509_cluster(make_cluster, **fault)
    outcome = cluster.alpha.ctl("create", "r0", check=False)
    assert outcome.code != 0
    assert words in outcome.err, str(outcome)
    if "purposes" not in fault:  # nor does beta get in at alpha with it
        assert cluster.beta.ctl("create", "r0", check=False).code != 0
    for node in cluster.nodes:
        assert not node.meta().exists()


def test_a_client_without_a_certificate_is_refused(make_cluster):
    cluster = x509_cluster(make_cluster)
    handle = nbd.NBD()
    handle.set_export_name("control")
    handle.set_tls(nbd.TLS_REQUIRE)
    handle.set_tls_verify_peer(False)
    folder = cluster.directory / "only-ca"
    folder.mkdir()
    (folder / "ca-cert.pem").write_bytes(
        (cluster.beta.directory / "x509" / "ca-cert.pem").read_bytes())
    handle.set_tls_certificates(str(folder))
    with pytest.raises(nbd.Error):
        handle.connect_tcp(*cluster.beta.address.rsplit(":", 1))
        handle.pread(512, 0)
    cluster.create()


# -- off -------------------------------------------------------------------------------------------

def test_off_is_a_warning_in_status_and_check(make_cluster):
    cluster = make_cluster(tls="off").start_active()
    assert "unencrypted" in cluster.alpha.status()["warnings"][0]
    assert "warn" in cluster.alpha.ctl("status", "r0").out
    outcome = cluster.alpha.ctl("check")
    assert "warning:" in outcome.out and "not encrypted" in outcome.out, str(outcome)


def test_off_is_refused_where_bytes_would_leave_the_machine(make_cluster):
    cluster = make_cluster(tls="off")
    text = cluster.config_text().replace(cluster.beta.address, "10.77.0.2:10809")
    cluster.write_config(text)
    outcome = cluster.alpha.ctl("check", check=False)
    assert outcome.code != 0 and "i_know_this_network_is_private" in outcome.err, str(outcome)
    cluster.write_config("i_know_this_network_is_private = true\n" + text)
    assert "i_know" not in cluster.alpha.ctl("check", check=False).err


@pytest.mark.parametrize("encrypted", ["alpha", "beta"])
def test_a_node_with_tls_and_one_without_refuse_each_other_in_words(make_cluster, encrypted):
    cluster = make_cluster(tls="off")
    node = getattr(cluster, encrypted)
    credentials.write_key(node.key_file)
    node.config.write_text(cluster.config_text().replace('tls = "off"', 'tls = "psk"'))
    cluster.start()
    outcome = cluster.alpha.ctl("create", "r0", check=False)
    assert outcome.code != 0 and "TLS" in outcome.err, str(outcome)
