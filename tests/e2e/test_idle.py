# SPDX-License-Identifier: BSD-3-Clause
"""A mirror that nobody uses costs nothing worth noticing, and keeps its promises all the same."""

import datetime
import socket
import struct
import time

import nbd
import pytest

from lib import control, environment, idle

pytestmark = pytest.mark.skipif(environment.sanitizer() != "",
                                reason="a sanitizer's own threads and pauses are what it measures")

# Wake-ups a second of both nodes together, with peer_timeout = 2 s: what the two mirrords do, and
# what each volume adds. Only what is done again and again counts, which no busy machine makes more.
OF_A_CLUSTER = 20
OF_A_VOLUME = 9
MOST_THREADS = 16
LONGEST_NAME = 15


def volumes(count):
    return {f"r{number}": {} for number in range(count)}


def device_client(path):
    """A connection as the kernel's client has it: with the default export open, and silent."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(path))
    assert client.recv(18, socket.MSG_WAITALL).startswith(b"NBDMAGIC")
    client.sendall(struct.pack(">L8sLL", 3, b"IHAVEOPT", 1, 0))
    assert len(client.recv(10, socket.MSG_WAITALL)) == 10
    return client


@pytest.mark.seconds(70)
@pytest.mark.parametrize("count", [1, 6])
def test_an_idle_mirror_hardly_ever_wakes(make_cluster, count):
    cluster = make_cluster(volumes(count)).start_all_active()
    time.sleep(2)
    seen = idle.Idle(idle.processes_of(cluster), seconds=10)
    print(seen.table())
    assert seen.wakeups <= OF_A_CLUSTER + count * OF_A_VOLUME, seen.table()
    for name in cluster.volumes:
        assert cluster.alpha.state(name) == "in-sync", cluster.alpha.status(name)
        assert cluster.beta.state(name) == "in-sync", cluster.beta.status(name)


def test_an_engine_that_serves_a_device_has_few_threads_and_all_have_names(cluster):
    node = cluster.alpha
    engine = node.engine_pid()
    with device_client(node.socket_at("express")):
        handle = nbd.NBD()
        handle.connect_unix(str(node.socket_at("express")))
        for block in range(512):  # all over: what touches a region first needs threads
            handle.pwrite(bytes([block % 255 + 1]) * 4096, block * 131072)
        handle.flush()
        handle.shutdown()
        asked = control.ask(node.socket_at("express"), {"request": "status"})
        assert asked["clients"] == 1, asked
        cluster.wait(lambda: len(idle.threads_of(engine)) <= MOST_THREADS,
                     "threads that nobody needs to end")
        names = idle.threads_of(engine)
    print(sorted(names))
    # nbdkit's own have the program's name: its main thread, and one for each request of a client
    # at its own door.
    assert names.count("nbdkit") == 1, names
    for pid in (node.daemon.pid, cluster.beta.daemon.pid):
        names = idle.threads_of(pid)
        assert names.count("mirrord") == 1, names
        assert all(0 < len(name) <= LONGEST_NAME for name in names), names
    node.ctl("demote", "r0")
    cluster.assert_replicas_equal()


def test_a_standby_that_stops_is_noticed_within_peer_timeout_and_a_second(cluster):
    limit = 2 * environment.slowness() + 1.0
    # Asking must not take the time that is measured: the events say when it was.
    cluster.beta.pause()
    began = time.time()
    try:
        event = cluster.wait_event(cluster.alpha, "mirror-break")[0]
    finally:
        cluster.beta.go_on()
    noticed = datetime.datetime.fromisoformat(
        event["time"].replace("Z", "+00:00")).timestamp() - began
    # A busy machine may take its time to write the event down.
    assert noticed <= limit + 0.5, event
    cluster.wait_in_sync(cluster.alpha)
    cluster.alpha.ctl("demote", "r0")
    cluster.assert_replicas_equal()

