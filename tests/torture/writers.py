# SPDX-License-Identifier: BSD-3-Clause
"""The applications: several writers on one volume, all driven by one thread, all in one record.

Each writer has a connection, a range of its own, which it also reads, and shares another range
with the others, where their writes overlap in flight.
"""

import collections
import dataclasses
import errno
import random
import select
import threading
import time

import nbd
import stamps
from lib import machine_time
from lib.waiting import wait_for

SECTOR = stamps.SECTOR
MIB_SECTORS = 1024 * 1024 // SECTOR
# Of the end of a connection, not of a disk.
_GONE = (errno.ENOTCONN, errno.ESHUTDOWN, errno.EPIPE, errno.ECONNRESET)


@dataclasses.dataclass
class _Request:
    kind: str
    first: int = 0
    count: int = 0
    write: object = None
    buffer: bytearray = None  # libnbd 1.14 never frees an nbd.Buffer that was in a command
    tick: int = 0


class Writer:
    """One connection; used by the load's thread only."""

    def __init__(self, number, load, private, shared):
        self.number = number
        self.load = load
        self.private = private  # (first sector, sectors)
        self.shared = shared
        self.handle = None
        self.in_flight = {}
        self.random = random.Random(f"{load.record.seed}/writer/{number}")
        self.counter = 0
        self.retry_at = 0.0

    # -- connection ------------------------------------------------------------------------------

    def connect(self, socket):
        """One attempt; what it leaves is driven by the poll loop."""
        self.handle = nbd.NBD()
        try:
            self.handle.aio_connect_unix(str(socket))
        except nbd.Error:
            self.handle = None

    def is_ready(self):
        return self.handle is not None and self.handle.aio_is_ready()

    def is_lost(self):
        return self.handle.aio_is_dead() or self.handle.aio_is_closed()

    def lose(self):
        """What was in flight may have been done or not."""
        self.handle = None
        for request in self.in_flight.values():
            self._end(request, answered=False)
        self.in_flight.clear()

    # -- requests --------------------------------------------------------------------------------

    def submit(self):
        dice = self.random.random()
        try:
            if dice < 0.03:
                self._keep(self.handle.aio_flush(), _Request("flush"))
            elif dice < 0.15:
                self._read()
            else:
                self._write(dice)
        except nbd.Error:
            pass  # the connection is dead; the loop sees it

    def _keep(self, cookie, request):
        request.tick = request.tick or self.load.record.tick()
        self.in_flight[cookie] = request

    def _read(self):
        first, count = self._place(self.private)
        if self._meets(first, count, lambda request: request.write is not None):
            return
        buffer = bytearray(count * SECTOR)
        cookie = self.handle.aio_pread(buffer, first * SECTOR)
        self._keep(cookie, _Request("read", first, count, buffer=buffer))

    def _write(self, dice):
        first, count = self._place(self.shared if self.random.random() < 0.4 else self.private)
        if self._meets(first, count, lambda request: request.kind == "read"):
            return
        kind = "trim" if dice < 0.19 else "zero" if dice < 0.23 else "write"
        self.counter += 1
        name = (self.number, self.counter)
        buffer = None
        if kind == "write":
            buffer = stamps.make(self.load.record.seed, *name, first, count)
            if self.random.random() < 0.05:
                kind = "write+fua"
        write = self.load.record.submit(name, first, count, kind in ("trim", "zero"))
        request = _Request(kind, first, count, write, buffer, write.submitted)
        try:
            cookie = self._send(kind, first * SECTOR, count * SECTOR, buffer)
        except nbd.Error:
            self.load.record.end(write, answered=False)
            raise
        self._keep(cookie, request)

    def _send(self, kind, offset, size, buffer):
        if kind == "trim":
            return self.handle.aio_trim(size, offset)
        if kind == "zero":
            return self.handle.aio_zero(size, offset)
        fua = nbd.CMD_FLAG_FUA if kind == "write+fua" else 0
        return self.handle.aio_pwrite(buffer, offset, flags=fua)

    def _place(self, area):
        """Sizes from 512 bytes to 1 MiB; half of the places are near each other."""
        dice = self.random.random()
        if dice < 0.35:
            count = self.random.randint(1, 8)
        elif dice < 0.96:
            count = 8 * self.random.randint(1, 16)
        else:
            count = 8 * self.random.randint(16, MIB_SECTORS // 8)
        first, sectors = area
        count = min(count, sectors)
        span = sectors - count
        if self.random.random() < 0.5:
            span = min(span, sectors // 16)
        place = self.random.randint(0, span)
        if count >= 8 and self.random.random() < 0.8:
            place -= place % 8
        return first + place, count

    def _meets(self, first, count, which):
        return any(which(request) and request.first < first + count
                   and first < request.first + request.count
                   for request in self.in_flight.values() if request.count)

    # -- answers ---------------------------------------------------------------------------------

    def collect(self):
        """Takes in what was answered; (all, those that write) of it."""
        done = written = 0
        while self.in_flight:
            try:
                cookie = self.handle.aio_peek_command_completed()
            except nbd.Error:
                break
            if cookie == 0:
                break
            request = self.in_flight.pop(cookie)
            try:
                self.handle.aio_command_completed(cookie)
            except nbd.Error as error:
                self._end(request, answered=False)
                if error.errnum not in _GONE:
                    self.load.note_error(
                        f"writer {self.number}: {request.kind} of {request.count * SECTOR} bytes "
                        f"at {request.first * SECTOR} was answered with {error.errno}")
                continue
            self._end(request, answered=True)
            done += 1
            written += request.kind != "read"
        return done, written

    def _end(self, request, answered):
        if request.write is not None:
            self.load.record.end(request.write, answered)
        if not answered:
            self.load.counts["unanswered"] += 1
            return
        self.load.counts[request.kind] += 1
        self.load.bytes[request.kind] += request.count * SECTOR
        if request.kind == "flush":
            self.load.record.flushed(request.tick)
        elif request.kind == "read":
            self._check_read(request)

    def _check_read(self, request):
        data = bytes(request.buffer)
        for index in range(request.count):
            sector = request.first + index
            complaint = self.load.record.complaint(
                sector, data[index * SECTOR:(index + 1) * SECTOR], settle=True)
            if complaint:
                self.load.complain(f"read by writer {self.number}: {complaint}")
                return


class Load:
    """The thread. The moves call pause(), go_on(), wait_progress() and set `sockets`, and `depth`:
    how many requests a writer has in flight."""

    DEPTH = 6

    def __init__(self, record, sockets, writers=3, shared_mib=6, private_mib=6, rate=600):
        self.record = record
        self.sockets = list(sockets)
        self.depth = self.DEPTH
        self.counts = collections.Counter()
        self.bytes = collections.Counter()
        self.complaints = []
        self.errors = []  # answers that were errors
        self.completed = 0
        self.written = 0
        self.disconnects = 0
        self.longest_pause = 0.0
        self.failure = None
        self._rate = rate
        self._submitted = 0
        self._rate_since = machine_time.now()
        self._last_answer = machine_time.now()
        self._stopping = threading.Event()
        self._pausing = threading.Event()
        self._losing = False
        self._idle = threading.Event()
        shared = (0, shared_mib * MIB_SECTORS)
        self._writers = [
            Writer(number, self, ((shared_mib + number * private_mib) * MIB_SECTORS,
                                  private_mib * MIB_SECTORS), shared)
            for number in range(writers)]
        self._turn = 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def stop(self):
        self._stopping.set()
        self._thread.join(30)

    def complain(self, text):
        if len(self.complaints) < 20:
            self.complaints.append(text)

    def note_error(self, text):
        if len(self.errors) < 20:
            self.errors.append(text)

    def pause(self, timeout=60.0, lose=False):
        """Returns when nothing is in flight any more: answered, or its connection lost.

        With `lose` the applications die, with all that was in flight.
        """
        self._losing = lose
        self._idle.clear()
        self._pausing.set()
        wait_for(lambda: self._idle.is_set() or self.failure, "the load to be idle", timeout)

    def go_on(self):
        self._last_answer = self._rate_since = machine_time.now()
        self._submitted = 0
        self._pausing.clear()

    def wait_progress(self, more, timeout=60.0):
        self._wait_count(lambda: self.completed, more, "answers", timeout)

    def wait_written(self, more, timeout=60.0):
        """Of reads some are answered where no write is."""
        self._wait_count(lambda: self.written, more, "answered writes", timeout)

    def _wait_count(self, count, more, what, timeout):
        goal = count() + more

        def reached():
            if self.failure:
                raise RuntimeError(f"the load ended: {self.failure}")
            return count() >= goal
        wait_for(reached, f"{more} more {what}", timeout)

    def take_longest_pause(self):
        """The longest time without an answered write since the last call, this moment included."""
        if not self._pausing.is_set():
            self._note_pause(machine_time.now())
        longest, self.longest_pause = self.longest_pause, 0.0
        return longest

    # -- the thread ------------------------------------------------------------------------------

    def _run(self):
        try:
            while not self._stopping.is_set():
                self._step()
        except Exception as error:  # pylint: disable=broad-except
            self.failure = f"{type(error).__name__}: {error}"

    def _step(self):
        pausing = self._pausing.is_set()
        poller, handles = select.poll(), {}
        for writer in self._writers:
            self._attend(writer, pausing)
            if writer.handle is not None:
                self._register(writer.handle, poller, handles)
        if pausing and not any(writer.in_flight for writer in self._writers):
            self._idle.set()
        for descriptor, found in poller.poll(20 if handles else 0):
            _notify(handles[descriptor], found)
        if not handles:
            time.sleep(0.02)

    def _attend(self, writer, pausing):
        if writer.handle is None:
            if not pausing and machine_time.now() >= writer.retry_at:
                writer.retry_at = machine_time.now() + 0.03
                self._turn += 1
                writer.connect(self.sockets[self._turn % len(self.sockets)])
            return
        done, written = writer.collect()
        self.completed += done
        self.written += written
        # Reads are local and would hide that nothing is written.
        if written:
            self._note_pause(machine_time.now())
        if writer.is_lost() or (pausing and self._losing):
            if writer.in_flight or done:
                self.disconnects += 1
            writer.lose()
            return
        while (not pausing and writer.is_ready() and len(writer.in_flight) < self.depth
               and self._may_submit()):
            before = len(writer.in_flight)
            writer.submit()
            if len(writer.in_flight) == before:
                return

    def _may_submit(self):
        if self._submitted > self._rate * (machine_time.now() - self._rate_since) + 20:
            return False
        self._submitted += 1
        return True

    def _note_pause(self, now):
        self.longest_pause = max(self.longest_pause, now - self._last_answer)
        self._last_answer = now

    @staticmethod
    def _register(handle, poller, handles):
        try:
            direction = handle.aio_get_direction()
            descriptor = handle.aio_get_fd()
        except nbd.Error:
            return
        events = ((select.POLLIN if direction & nbd.AIO_DIRECTION_READ else 0)
                  | (select.POLLOUT if direction & nbd.AIO_DIRECTION_WRITE else 0))
        poller.register(descriptor, events)
        handles[descriptor] = handle


def _notify(handle, found):
    """One step of libnbd's state machine."""
    try:
        direction = handle.aio_get_direction()
        if found & (select.POLLIN | select.POLLHUP) and direction & nbd.AIO_DIRECTION_READ:
            handle.aio_notify_read()
        elif found & select.POLLOUT and direction & nbd.AIO_DIRECTION_WRITE:
            handle.aio_notify_write()
        elif found & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            handle.aio_notify_read()
    except nbd.Error:
        pass  # is_lost() sees it
