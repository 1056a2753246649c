# SPDX-License-Identifier: BSD-3-Clause
"""The tools of these tests can fail: each is shown a fault and must see it."""

import subprocess
import threading
import time
import uuid

import nbd
import pytest

from lib import blocks, environment, machine_time, processes
from lib.load import Load
from lib.proxy import Proxy
from lib.waiting import accepts, wait_for

pytestmark = pytest.mark.without_build

SIZE = 16 * 1024 * 1024


@pytest.fixture
def server(tmp_path):
    """nbdkit on a file, with delays and errors that can be switched on."""
    image = tmp_path / "disk.img"
    with open(image, "wb") as file:
        file.truncate(SIZE)
    started = []

    def start(*parameters, filters=()):
        socket = tmp_path / f"{len(started)}.sock"
        started.append(subprocess.Popen(["nbdkit", "-f", "-U", str(socket), *filters, "file",
                                         str(image), *parameters]))
        wait_for(lambda: accepts(socket), "nbdkit to listen")
        return socket

    start.image = image
    start.started = started
    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_faithful_disk_verifies(server, seed):
    socket = server()
    load = Load([socket], seed, count=1024).start()
    load.wait_progress(2000)
    load.stop()
    load.assert_undisturbed()
    load.verify_file(server.image)
    load.verify_volume(socket)


@pytest.mark.parametrize("damage", ["old", "swapped", "zeroed", "torn"])
def test_a_wrong_block_is_found(server, seed, damage):
    load = Load([server()], seed, count=64, zeroes=0).start()
    load.wait_progress(500)
    load.stop()
    number = next(index for index in range(64) if load.ledger.answered[index] > 1)
    version = load.ledger.answered[number]
    good = blocks.make(seed, number, version)
    bad = {"old": blocks.make(seed, number, version - 1),
           "swapped": blocks.make(seed, number + 1, version),
           "zeroed": bytes(blocks.SIZE),
           "torn": good[:1000] + blocks.make(seed, number, version + 1)[1000:]}[damage]
    with open(server.image, "r+b") as image:
        image.seek(number * blocks.SIZE)
        image.write(bad)
    with pytest.raises(AssertionError, match=f"block {number} "):
        load.verify_file(server.image)


def test_an_unanswered_write_may_be_there_or_not_but_not_change_afterwards(seed):
    ledger = blocks.Ledger(seed, 1)
    ledger.answer(0, ledger.submit(0, zero=False))
    ledger.submit(0, zero=False)
    old, new = blocks.make(seed, 0, 1), blocks.make(seed, 0, 2)
    assert not ledger.verify(lambda *_: old)
    assert not ledger.verify(lambda *_: new)
    assert ledger.verify(lambda *_: old)


def test_errors_and_pauses_reach_the_report(server, seed, tmp_path):
    trigger = tmp_path / "trigger"
    socket = server("error-pwrite=EIO", "error-pwrite-rate=100%", f"error-file={trigger}",
                    filters=["--filter=error"])
    load = Load([socket], seed, count=1024).start()
    load.wait_progress()
    assert not load.errors
    server.started[0].send_signal(19)
    time.sleep(1.0)  # answers sent before the stop are still read: the pause is a little shorter
    server.started[0].send_signal(18)
    load.wait_progress()
    assert load.longest_pause >= 0.5
    assert load.longest_latency >= 0.5
    trigger.touch()
    wait_for(lambda: load.errors, "an error")
    load.stop()
    with pytest.raises(AssertionError, match="EIO"):
        load.assert_undisturbed()


def test_the_load_follows_to_the_socket_that_answers(server, seed):
    first, second = server(), server()
    load = Load([first, second], seed, count=1024).start()
    load.wait_progress()
    server.started[0].kill()
    load.wait_progress()
    assert load.disconnects == 1
    load.stop()
    load.verify_volume(second)


def test_a_load_that_may_not_follow_ends_with_its_server(server, seed):
    load = Load([server()], seed, count=1024).start()
    server.started[0].kill()
    wait_for(lambda: load.failure, "the load to end")
    with pytest.raises(AssertionError, match="connection was lost"):
        load.stop()


def test_the_proxy_cuts_silences_and_counts(seed):
    target = environment.free_ports(1)[0]
    with subprocess.Popen(["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(target), "memory",
                           "1M"]) as server:
        proxy = Proxy(target)

        def connect():
            handle = nbd.NBD()
            try:
                handle.connect_tcp("127.0.0.1", str(proxy.port))
            except nbd.Error:
                return None
            return handle

        handle = wait_for(connect, "nbdkit to listen")
        handle.pwrite(bytes(65536), 0)
        wait_for(lambda: proxy.bytes_forward > 65536, "the bytes to be counted")

        proxy.silence()
        threading.Timer(0.5, proxy.open).start()
        began = time.monotonic()
        cookie = handle.aio_pread(nbd.Buffer(512), 0)
        while not handle.aio_command_completed(cookie):
            handle.poll(10)
        assert time.monotonic() - began >= 0.45

        proxy.cut()
        with pytest.raises(nbd.Error):
            handle.pread(512, 0)
        assert connect() is None
        proxy.open()
        assert connect() is not None
        proxy.close()
        server.kill()


def test_processes_are_found_by_their_marker():
    marker = uuid.uuid4().hex
    with subprocess.Popen(["sleep", "60"], env={"MIRRORDISK_TEST": marker}) as sleeper:
        wait_for(lambda: processes.marked(marker) == [sleeper.pid], "sleep to begin")
        processes.kill_marked(marker)
        assert sleeper.wait(10) == -9
    assert processes.marked(marker) == []


def test_waiting_says_what_was_seen_last():
    with pytest.raises(AssertionError, match="waited 0 s for rain; last seen: 'sun'.*\nlogs"):
        wait_for(lambda: "sun" == "rain" or (_ for _ in ()).throw(AssertionError("'sun'")), "rain",
                 timeout=0.01, report=lambda: "logs")


def test_a_machine_that_stands_still_makes_nothing_late():
    clock = [100.0]
    machine = machine_time.MachineTime(lambda: clock[0])
    for _ in range(20):  # two seconds of a running machine
        clock[0] += 0.1
        machine.tick()
    assert machine.now() == pytest.approx(2.0) and machine.stood_still == 0.0
    clock[0] += 600.0
    assert machine.now() == pytest.approx(2.0 + machine_time.LONGEST_STEP)
    machine.tick()
    assert machine.now() == pytest.approx(2.0 + machine_time.LONGEST_STEP)
    assert machine.stood_still == pytest.approx(600.0 - machine_time.LONGEST_STEP)
    clock[0] += 0.5  # and it goes on
    assert machine.now() == pytest.approx(2.5 + machine_time.LONGEST_STEP)


def test_a_program_that_hangs_is_late():
    with pytest.raises(subprocess.TimeoutExpired):
        machine_time.run(["sleep", "60"], 0.5)
    done = machine_time.run(["sh", "-c", "echo out; echo err >&2; exit 3"], 10)
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
