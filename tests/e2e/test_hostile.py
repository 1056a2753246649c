# SPDX-License-Identifier: BSD-3-Clause
"""Strangers at mirrord's port while a mirror works: no crash, no leak, no stall."""

import random
import socket
import struct
import time

import pytest

from lib import environment, processes

CONNECTIONS = 1000 if environment.sanitizer() else 10000
NBD_MAGIC = b"NBDMAGICIHAVEOPT"


def connect(address):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=30)


def option(number, data, length=None):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data) if length is None else length) + data


def silent(rng):
    del rng
    return b""


def random_bytes(rng):
    return rng.randbytes(rng.randrange(1, 3000))


def random_option(rng):
    return struct.pack(">I", 3) + option(rng.randrange(20), rng.randbytes(rng.randrange(200)))


def endless_option(rng):
    return struct.pack(">I", 3) + option(7, rng.randbytes(100), 0xffffffff)


def bad_export(rng):
    name = rng.randbytes(rng.randrange(64))
    return struct.pack(">I", 3) + option(7, struct.pack(">I", len(name)) + name + b"\0\0")


def lying_name(rng):
    return struct.pack(">I", 3) + option(6, struct.pack(">I", 0x7fffffff) + rng.randbytes(10))


def garbage_after_control(rng):
    name = b"control"
    go = option(7, struct.pack(">I", len(name)) + name + b"\0\0")
    return struct.pack(">I", 3) + go + rng.randbytes(rng.randrange(500))


def absurd_request(rng):
    name = b"control"
    go = option(7, struct.pack(">I", len(name)) + name + b"\0\0")
    request = struct.pack(">IHHQQI", 0x25609513, rng.randrange(65536), rng.randrange(12),
                          rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(32))
    return struct.pack(">I", 3) + go + request


def http(rng):
    del rng
    return b"GET / HTTP/1.1\r\nHost: mirrord\r\n\r\n"


KINDS = [silent, random_bytes, random_option, endless_option, bad_export, lying_name,
         garbage_after_control, absurd_request, http]


def attack(address, rng, count):
    """Some end at once, some stay open half-way, the oldest of these closed by and by."""
    kept = []
    for _ in range(count):
        stranger = connect(address)
        try:
            stranger.sendall(rng.choice(KINDS)(rng))
        except OSError:
            pass  # thrown out already
        if rng.random() < 0.5:
            stranger.close()
            continue
        kept.append(stranger)
        if len(kept) > 200:
            kept.pop(0).close()
    return kept


@pytest.mark.door
@pytest.mark.sanitizers
@pytest.mark.seconds(300)
def test_ten_thousand_strangers_do_not_disturb_the_mirror(cluster, make_load, rng):
    load = make_load([cluster.alpha.socket()], rate=500).start()
    load.wait_progress()
    daemon = cluster.beta.daemon.pid
    # One round first, so that what is allocated once is not taken for a leak.
    for stranger in attack(cluster.beta.address, rng, CONNECTIONS // 10):
        stranger.close()
    files = processes.open_files(daemon)
    memory = processes.status_field(daemon, "VmRSS")
    load.reset_measures()

    kept = attack(cluster.beta.address, rng, CONNECTIONS)
    kept += attack(cluster.alpha.address, rng, CONNECTIONS // 10)
    load.wait_progress()
    assert cluster.alpha.state() == "in-sync"
    assert not cluster.alpha.events("mirror-break")
    assert load.longest_latency < 2 * environment.slowness(), load.longest_latency
    for stranger in kept:
        stranger.close()

    cluster.wait(lambda: processes.open_files(daemon) <= files + 4, "the connections to be closed")
    if not environment.sanitizer():
        grown = processes.status_field(daemon, "VmRSS") - memory
        assert grown < 16 * 1024, f"{grown} KiB more than before"
    load.stop()
    load.assert_undisturbed()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()


@pytest.mark.door
@pytest.mark.sanitizers
def test_slow_senders_and_half_open_connections_do_not_keep_a_peer_out(cluster, make_load):
    load = make_load([cluster.alpha.socket()], rate=500).start()
    strangers = [connect(cluster.beta.address) for _ in range(400)]
    greeting = struct.pack(">I", 3) + option(3, b"")
    deadline = time.monotonic() + 3
    position = 0
    rng = random.Random(1)
    while time.monotonic() < deadline:
        for stranger in rng.sample(strangers, 50):
            try:
                stranger.sendall(greeting[position % len(greeting):][:1])
            except OSError:
                pass  # dropped for the newest, or for its slowness
        position += 1
    # A peer that has to connect now gets in.
    cluster.alpha.ctl("disconnect", "r0")
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    load.wait_progress()
    load.stop()
    load.assert_undisturbed()
    for stranger in strangers:
        stranger.close()


def test_bytes_that_are_not_nbd_get_an_end_not_a_wait(cluster):
    stranger = connect(cluster.beta.address)
    stranger.settimeout(20 * environment.slowness())
    assert stranger.recv(18, socket.MSG_WAITALL).startswith(NBD_MAGIC)
    stranger.sendall(b"\xff" * 4096)
    try:
        while stranger.recv(4096):
            pass
    except ConnectionError:
        pass
    stranger.close()
