# SPDX-License-Identifier: BSD-3-Clause
"""The engine's own door, VOLUME.express.sock, next to nbdkit's on the same volume."""

import os
import socket
import stat
import struct

import nbd
import pytest

from lib import control

MIB = 1024 * 1024


def connect(path):
    handle = nbd.NBD()
    handle.connect_unix(str(path))
    return handle


def raw_client(path):
    """A connection with the default export open, for whoever wants to say anything."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(path))
    assert client.recv(18, socket.MSG_WAITALL).startswith(b"NBDMAGIC")
    client.sendall(struct.pack(">L8sLL", 3, b"IHAVEOPT", 1, 0))  # EXPORT_NAME, the default one
    assert len(client.recv(10, socket.MSG_WAITALL)) == 10
    return client


def request(command, cookie, offset, length):
    return struct.pack(">LHHQQL", 0x25609513, 0, command, cookie, offset, length)


def finish(cluster, *loads):
    for load in loads:
        load.stop()
        load.assert_undisturbed()
    # A busy machine may have broken the mirror; then equal is what it becomes.
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
    for load in loads:
        for node in cluster.nodes:
            load.verify_file(cluster.backing(node))


@pytest.mark.sanitizers
def test_both_doors_are_one_volume(cluster, make_load):
    node = cluster.alpha
    loads = [make_load([node.socket_at("nbdkit")], count=4096).start(),
             make_load([node.socket_at("express")], count=4096, first=4096).start()]
    plain, express = connect(node.socket_at("nbdkit")), connect(node.socket_at("express"))
    for turn in range(20):
        place = 40 * MIB + turn * 4096
        plain.pwrite(bytes([turn + 1]) * 4096, place)
        assert express.pread(4096, place) == bytes([turn + 1]) * 4096
        express.pwrite(bytes([turn + 100]) * 4096, place, nbd.CMD_FLAG_FUA)
        assert plain.pread(4096, place) == bytes([turn + 100]) * 4096
        plain.flush()
    for handle in (plain, express):
        handle.shutdown()
    for load in loads:
        load.wait_progress()
    finish(cluster, *loads)


def test_most_requests_of_a_mirror_in_sync_wait_for_nothing(cluster, make_load):
    node = cluster.alpha
    load = make_load([node.socket_at("express")], count=4096).start()
    load.wait_progress(2000)
    counted = control.ask(node.control_socket(), {"request": "status"})["express"]
    print(counted)
    assert counted["quick_requests"] > 3 * counted["pooled_requests"]
    finish(cluster, load)


def test_the_socket_is_as_open_as_the_other_one_and_goes_with_it(cluster):
    node = cluster.alpha
    plain, express = os.stat(node.socket_at("nbdkit")), os.stat(node.socket_at("express"))
    assert stat.S_ISSOCK(express.st_mode)
    assert (express.st_mode, express.st_uid, express.st_gid) == (plain.st_mode, plain.st_uid,
                                                                 plain.st_gid)
    assert control.ask(node.socket_at("express"), {"request": "status"})["clients"] == 0
    node.ctl("demote", "r0")
    assert not node.socket_at("express").exists()
    cluster.assert_replicas_equal()


def test_its_clients_count_as_users_of_the_volume(cluster):
    node = cluster.alpha
    client = connect(node.socket_at("express"))
    client.pwrite(b"x" * 4096, 0)
    assert "in use" in node.ctl("demote", "r0", check=False).err
    client.pwrite(b"y" * 4096, 0)
    node.ctl("demote", "r0", "--disconnect-clients")
    with pytest.raises(nbd.Error):
        client.pwrite(b"z" * 4096, 0)
    cluster.assert_replicas_equal()


@pytest.mark.sanitizers
def test_the_standby_dies_and_returns_under_it(cluster, make_load):
    load = make_load([cluster.alpha.socket_at("express")]).start()
    for _ in range(3):
        load.wait_progress(100)
        cluster.beta.kill_daemon()
        cluster.wait_state(cluster.alpha, "broken")
        load.wait_progress(200)
        cluster.beta.start()
        cluster.wait_in_sync(cluster.alpha)
    load.wait_progress()
    finish(cluster, load)


@pytest.mark.sanitizers
@pytest.mark.seconds(300)
def test_the_engine_dies_under_it(cluster, make_load):
    node = cluster.alpha
    load = make_load([node.socket_at("express")], follow=True).start()
    for _ in range(3):
        load.wait_progress(100)
        node.kill_engine()
        load.pause()
        cluster.wait(node.engine_pid, "mirrord to start the engine again")
        cluster.wait_in_sync(node)
        load.verify_volume(node.socket_at("express"))
        cluster.assert_replicas_equal()
        load.go_on()
    load.wait_progress()
    load.stop()
    assert not load.errors


def test_the_engine_is_replaced_under_it(cluster, make_load):
    load = make_load([cluster.alpha.socket_at("express")], follow=True).start()
    load.wait_progress()
    cluster.alpha.ctl("restart-engine", "r0", "--disconnect-clients")
    load.wait_progress()
    load.stop()
    assert not load.errors
    cluster.wait_in_sync(cluster.alpha)
    load.verify_volume(cluster.alpha.socket_at("nbdkit"))
    cluster.assert_replicas_equal()


@pytest.mark.sanitizers
def test_clients_that_break_the_rules_disturb_no_other(cluster, make_load, rng):
    path = cluster.alpha.socket_at("express")
    load = make_load([path], count=4096).start()
    held = []
    for turn in range(30):
        client = raw_client(path)
        kind = turn % 6
        if kind == 0:    # half a request, and silence
            client.sendall(request(1, 7, 0, 65536) + b"h" * rng.randrange(65536))
            held.append(client)
        elif kind == 1:  # requests under way when it leaves
            for number in range(40):
                client.sendall(request(1, number, 48 * MIB + number * 8192, 8192)
                               + bytes([turn + 1]) * 8192)
            client.close()
        elif kind == 2:  # more than any request may have
            client.sendall(request(1, 7, 0, 0xffffffff))
            assert client.recv(1) == b""
        elif kind == 3:  # no request at all
            client.sendall(rng.randbytes(300))
            try:
                while client.recv(4096):
                    pass
            except ConnectionError:
                pass
        elif kind == 4:  # asks for a lot and fetches nothing
            for number in range(32):
                client.sendall(request(0, number, 0, 4 * MIB))
            held.append(client)
        else:            # beyond the end, and a length that is none
            client.sendall(request(0, 7, 64 * MIB, 4096) + request(1, 8, 0, 0))
            for cookie, error in ((7, 22), (8, 22)):
                assert client.recv(16, socket.MSG_WAITALL) == struct.pack(">LLQ", 0x67446698,
                                                                           error, cookie)
        load.wait_progress(20)
    for client in held:
        client.close()
    finish(cluster, load)


def test_a_disk_that_hangs_holds_up_the_writes_to_it_and_no_reads(make_cluster, fuse_backing):
    cluster = make_cluster()
    disk = fuse_backing(cluster, cluster.alpha)
    cluster.start()
    cluster.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    client = connect(cluster.alpha.socket_at("express"))
    client.pwrite(b"1" * MIB, 0)
    assert client.pread(MIB, 0) == b"1" * MIB
    disk.hang()
    buffers = [bytearray(b"2" * 4096) for _ in range(8)]
    cookies = [client.aio_pwrite(buffer, 2 * MIB + number * 4096)
               for number, buffer in enumerate(buffers)]
    other = connect(cluster.alpha.socket_at("express"))
    assert other.pread(4096, 0) == b"1" * 4096  # of the page cache
    disk.go_on()
    for cookie in cookies:
        while not client.aio_command_completed(cookie):
            client.poll(100)
    for handle in (client, other):
        handle.shutdown()
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()
