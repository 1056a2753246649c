# SPDX-License-Identifier: BSD-3-Clause
"""Clients that know nothing of mirrors: on the volume and on mirrord's own server."""

import os
import secrets

import nbd
import pytest

from lib import control, tools

MIB = 1024 * 1024


@pytest.fixture(params=["psk", "off"])
def data_export(request, make_cluster):
    """(cluster, URI): beta's data export, as an active peer would open it; alpha is away."""
    cluster = make_cluster(tls=request.param).start_active()
    cluster.alpha.ctl("demote", "r0")
    cluster.alpha.stop()
    session = secrets.token_hex(16)
    reply = control.ask(cluster.beta.run_dir / "mirrord.sock",
                        {"request": "session-begin", "volume": "r0", "session": session,
                         "source": "alpha", "resync": True, "step": 100})
    assert reply["ok"], reply
    return cluster, cluster.beta.tcp_uri(f"r0@{session}")


def exercise(uri, tmp_path, rng, replicas):
    """What the stock clients do to an export; every replica has to show it afterwards."""
    image = tmp_path / "source.img"
    image.write_bytes(rng.randbytes(8 * MIB) + bytes(48 * MIB) + rng.randbytes(8 * MIB))
    tools.nbdcopy(image, uri)
    back = tmp_path / "back.img"
    tools.nbdcopy(uri, back)
    assert tools.run("cmp", image, back).returncode == 0
    for replica in replicas:
        assert tools.run("cmp", image, replica).returncode == 0
    tools.qemu_compare(str(image), uri)
    tools.qemu_io(uri, "write -P 0x5a 1M 64k", "write -z 2M 1M", "discard 4M 1M",
                  "aio_write -P 0x11 5M 64k", "aio_write -f -P 0x22 6M 128k", "aio_flush", "flush",
                  "read -P 0x5a 1M 64k", "read -P 0 2M 1M", "read -P 0x11 5M 64k",
                  "read -P 0x22 6M 128k", "write -P 7 511 1", "read -P 7 511 1")
    if not uri.startswith("nbds:"):  # fio has no way to allow libnbd the file with the key
        tools.fio_verify(uri, tmp_path)


@pytest.mark.sanitizers
@pytest.mark.usefixtures("door")
def test_on_the_volume(cluster, tmp_path, rng):
    files = [cluster.backing(node) for node in cluster.nodes]
    exercise(cluster.alpha.uri(), tmp_path, rng, files)
    cluster.assert_replicas_equal()
    tools.qemu_compare(*files)
    assert cluster.alpha.state() == "in-sync"


@pytest.mark.sanitizers
def test_on_the_data_export_of_mirrord(data_export, tmp_path, rng):
    cluster, uri = data_export
    exercise(uri, tmp_path, rng, [cluster.backing(cluster.beta)])


@pytest.mark.usefixtures("door")
def test_what_the_volume_claims_is_true(cluster):
    info = tools.nbdinfo(cluster.alpha.uri())
    assert info["export-size"] == 64 * MIB
    assert not info["is_read_only"]
    for claim in ("can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"):
        assert info[claim], claim
    assert info["block_size_minimum"] == 1
    # Multi-conn: what one connection wrote and had answered, another reads; either may flush.
    first, second = nbd.NBD(), nbd.NBD()
    for handle in (first, second):
        handle.connect_unix(str(cluster.alpha.socket()))
    first.pwrite(b"m" * 4096, 0)
    assert second.pread(4096, 0) == b"m" * 4096
    second.flush()
    first.pwrite(b"n" * 4096, 0, nbd.CMD_FLAG_FUA)
    assert second.pread(4096, 0) == b"n" * 4096
    for handle in (first, second):
        handle.shutdown()
    cluster.assert_replicas_equal()


def test_what_the_data_export_claims_is_true(data_export):
    info = tools.nbdinfo(data_export[1])
    assert info["export-size"] == 64 * MIB
    for claim in ("can_flush", "can_fua", "can_zero", "can_trim"):
        assert info[claim], claim


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("size", [1, 511, 512, 513, 4095, 4096, 4097, 65536 + 3, MIB - 1,
                                  32 * MIB])
def test_requests_of_any_size_and_alignment(cluster, rng, size):
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    for offset in {0, 1, rng.randrange(64 * MIB - size), 64 * MIB - size}:
        data = rng.randbytes(size)
        handle.pwrite(data, offset)
        assert handle.pread(size, offset) == data
        handle.zero(size, offset)
        assert handle.pread(size, offset) == bytes(size)
        handle.pwrite(data, offset)
        handle.trim(size, offset)
        assert handle.pread(size, offset) == bytes(size)
    handle.shutdown()
    cluster.assert_replicas_equal()


@pytest.mark.usefixtures("door")
def test_requests_beyond_the_end_are_refused(cluster):
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.connect_unix(str(cluster.alpha.socket()))
    for call in (lambda: handle.pwrite(b"x" * 512, 64 * MIB),
                 lambda: handle.pwrite(b"x" * 1024, 64 * MIB - 512),
                 lambda: handle.pread(512, 64 * MIB),
                 lambda: handle.zero(1024, 64 * MIB - 512)):
        with pytest.raises(nbd.Error):
            call()
    handle.pwrite(b"still here", 0)
    handle.shutdown()


@pytest.mark.usefixtures("door")
def test_sparse_stays_sparse_on_both_sides(cluster):
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    allocated = [os.stat(cluster.backing(node)).st_blocks for node in cluster.nodes]
    assert max(allocated) * 512 < MIB
    handle.pwrite(b"d" * 4 * MIB, 0)
    handle.zero(16 * MIB, 16 * MIB)
    handle.trim(4 * MIB, 0)
    handle.flush()
    handle.shutdown()
    for node in cluster.nodes:
        assert os.stat(cluster.backing(node)).st_blocks * 512 < MIB, node.name
    cluster.assert_replicas_equal()


@pytest.mark.usefixtures("door")
def test_overlapping_writes_in_flight_leave_both_replicas_alike(cluster, rng):
    handles = []
    for _ in range(4):
        handle = nbd.NBD()
        handle.connect_unix(str(cluster.alpha.socket()))
        handles.append(handle)
    cookies = []
    for turn in range(2000):
        handle = handles[turn % 4]
        size = rng.randrange(1, 16384)
        buffer = bytearray(rng.randbytes(size))
        cookies.append((handle, handle.aio_pwrite(buffer, rng.randrange(32768))))
        if len(cookies) == 64:
            for owner, cookie in cookies:
                while not owner.aio_command_completed(cookie):
                    owner.poll(100)
            cookies = []
    for owner, cookie in cookies:
        while not owner.aio_command_completed(cookie):
            owner.poll(100)
    for handle in handles:
        handle.shutdown()
    cluster.assert_replicas_equal()
