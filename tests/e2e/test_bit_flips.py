# SPDX-License-Identifier: BSD-3-Clause
"""Bits are flipped between the nodes: nothing false is written, nothing false is believed."""

import threading

import nbd
import pytest

from lib import control

MIB = 1024 * 1024
KIB = 1024


class Watcher:
    """Looks at one place of a file all the time, and remembers what it saw there."""

    def __init__(self, path, offset, size):
        self.seen = set()
        self._stopping = threading.Event()
        self._place = (path, offset, size)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        path, offset, size = self._place
        with open(path, "rb", buffering=0) as image:
            while not self._stopping.is_set():
                image.seek(offset)
                self.seen.add(image.read(size))

    def stop(self):
        self._stopping.set()
        self._thread.join()
        return self.seen


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.parametrize("size", [4096, MIB])
def test_a_flipped_bit_of_a_write_never_reaches_the_standbys_disk(make_cluster, rng, size):
    cluster = make_cluster(proxied=True, tls="off").start_active()
    link = cluster.proxies["beta"]
    data = rng.randbytes(size)
    offset = 8 * MIB
    watcher = Watcher(cluster.backing(cluster.beta), offset, 4096)
    link.garble(data[512:544], refuse_new=True)
    client = nbd.NBD()
    client.connect_unix(str(cluster.alpha.socket()))
    client.pwrite(data, offset)
    assert link.flips == 1
    event = cluster.wait_event(cluster.beta, "link-garbled")[0]
    assert "a bit was flipped between alpha and beta" in event["text"]
    assert "checksum" in event["cause"]
    cluster.wait_state(cluster.alpha, "broken")
    # Nobody gets through to send it again: what is there now is what the garbled frame left.
    with open(cluster.backing(cluster.beta), "rb") as image:
        image.seek(offset)
        assert image.read(size) == bytes(size)
    break_event = cluster.wait_event(cluster.alpha, "mirror-break")[0]
    assert "a bit was flipped" in break_event["cause"], break_event
    assert client.pread(size, offset) == data
    link.calm()
    cluster.wait_in_sync(cluster.alpha)
    assert watcher.stop() <= {bytes(4096), data[:4096]}
    client.shutdown()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    with open(cluster.backing(cluster.beta), "rb") as image:
        image.seek(offset)
        assert image.read(size) == data


@pytest.mark.parametrize("what", [b'"session-begin', b'"handshake', b'"session-synced'])
def test_a_garbled_control_message_is_not_carried_out(make_cluster, what):
    cluster = make_cluster(proxied=True, tls="off").start_active()
    link = cluster.proxies["beta"]
    cluster.alpha.ctl("disconnect", "r0")
    link.garble(what)
    cluster.alpha.ctl("connect", "r0")
    cluster.wait(lambda: link.flips == 1, "the message to be garbled")
    cluster.wait_in_sync(cluster.alpha)
    assert "corrupted in transit" in cluster.alpha.log.read_text(encoding="utf-8")


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(300)
@pytest.mark.parametrize("directions", [{"forward": 512 * KIB}, {"backward": 24 * KIB},
                                        {"forward": 512 * KIB, "backward": 48 * KIB}],
                         ids=["there", "back", "both"])
def test_flipped_bits_under_load(make_cluster, make_load, seed, directions):
    cluster = make_cluster(proxied=True, tls="off").start_active()
    load = make_load([cluster.alpha.socket()]).start()
    link = cluster.proxies["beta"]
    for number, proxy in enumerate(cluster.proxies.values()):
        proxy.flip(seed + number, **directions)

    def enough():
        load.wait_progress(1)
        return link.flips >= 8 and len(cluster.alpha.events("mirror-break")) >= 3
    cluster.wait(enough, "the link to have broken three times for flipped bits", timeout=150)
    if "forward" in directions:
        cluster.wait_event(cluster.beta, "link-garbled", timeout=120)
    for proxy in cluster.proxies.values():
        proxy.calm()
    cluster.wait_in_sync(cluster.alpha)
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    load.verify_volume(cluster.alpha.socket())
    for event in cluster.alpha.events("mirror-break"):
        assert event["cause"], event
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    load.verify_file(cluster.backing(cluster.beta))


def test_a_peer_with_an_older_protocol_is_refused_in_words(cluster):
    reply = control.ask(cluster.beta,
                        {"request": "peer-status", "node": "alpha", "protocol": 1})
    assert not reply["ok"]
    assert "protocol 1" in reply["error"]["message"], reply


def test_garbled_state_files_are_reported_and_crash_nobody(cluster, rng):
    """events.jsonl and rto.json are for people: no decision rests on them."""
    node = cluster.alpha
    log = node.state_dir / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    for kind in range(4):
        bad = bytearray(rng.choice(lines))
        if kind == 0:
            bad[rng.randrange(len(bad) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            bad = bad[:len(bad) // 2] + b"\n"
        elif kind == 2:
            bad = bytearray(b'{"id": 7, "text": [], "time": {}, "severity": null}\n')
        else:
            bad = bytearray(rng.randbytes(200).replace(b"\n", b"") + b"\n")
        lines.insert(rng.randrange(len(lines)), bytes(bad))
    log.write_bytes(b"".join(lines))
    rto = node.state_dir / "r0" / "rto.json"
    for content in (b'{"seconds": "x", "phases": 3}', b"\xff{", b"[]", b""):
        rto.write_bytes(content)
        assert node.status()["state"] == "in-sync"
        node.ctl("status", "r0")
    outcome = node.ctl("events")
    assert "in-sync" in outcome.out or "equal" in outcome.out, str(outcome)
    assert "not JSON" in outcome.err
    node.ctl("disconnect", "r0")
    node.ctl("connect", "r0")
    cluster.wait_in_sync(node)
