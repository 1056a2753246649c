# SPDX-License-Identifier: BSD-3-Clause
"""An application on a volume: many writes in flight, each remembered, and every pause measured."""

import dataclasses
import errno
import random
import select
import threading
import time

import nbd

from lib import blocks, environment, machine_time
from lib.waiting import wait_for


@dataclasses.dataclass
class _Write:
    """A command in flight; `versions` is empty for a flush."""
    began: float
    versions: dict
    buffer: object = None
    flushes: list = None


class Load:
    """A thread that writes random runs of blocks through the volume's socket until stop().

    sockets   where the volume may be served; with more than one, or with follow=True, a lost
              connection is no error: the first socket that answers again is used
    count     blocks that are written, from block `first` on
    depth     writes in flight
    zeroes    share of the writes that are zero or trim requests
    rate      writes a second at most, None for as many as go through
    """

    def __init__(self, sockets, seed, count=8192, first=0, depth=8, max_run=8, zeroes=0.1,
                 flush_every=64, rate=None, follow=False):
        self.sockets = [str(path) for path in sockets]
        self.ledger = blocks.Ledger(seed, count, first)
        self.depth = depth
        self.max_run = max_run
        self.zeroes = zeroes
        self.flush_every = flush_every
        self.rate = rate
        self.follow = follow or len(self.sockets) > 1
        self.errors = []          # of requests on a living connection
        self.disconnects = 0
        self.completed = 0
        self.longest_latency = 0.0
        self.longest_pause = 0.0  # without any answer, reconnecting included
        self.failure = None       # what ended the thread
        self._random = random.Random(seed)
        self._handle = None
        self._in_flight = {}
        self._busy = set()
        self._since_flush = 0
        self._last_answer = 0.0
        self._next_write = 0.0
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._paused = threading.Event()
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    # -- for the test ----------------------------------------------------------------------------

    def start(self):
        self._last_answer = machine_time.now()
        self._thread.start()
        self.wait_progress(1)
        return self

    def wait_progress(self, more=200, timeout=60.0):
        """Until so many more writes have been answered."""
        goal = self.completed + more

        def reached():
            if self.failure:
                raise RuntimeError(f"the load ended: {self.failure}")
            return self.completed >= goal
        wait_for(reached, f"{more} more writes to be answered", timeout)

    def pause(self, timeout=60.0):
        """No new writes; returns when all that were in flight are answered."""
        self._paused.set()
        wait_for(lambda: self._idle.is_set() or self.failure, "the load to be idle", timeout)

    def go_on(self):
        self._idle.clear()
        self._last_answer = machine_time.now()
        self._paused.clear()

    def reset_measures(self):
        self.longest_latency = self.longest_pause = 0.0
        self._last_answer = machine_time.now()

    def stop(self, timeout=60.0):
        """Waits for what is in flight as long as the connection lives."""
        self._stopping.set()
        self._thread.join(timeout * environment.slowness())
        assert not self._thread.is_alive(), f"the load hangs with {len(self._in_flight)} in flight"
        if self.failure:
            raise AssertionError(f"the load ended: {self.failure}")
        return self

    def abandon(self):
        """The application dies: what was in flight stays un-answered."""
        self._abandoned.set()
        self._stopping.set()
        self._thread.join(60 * environment.slowness())
        assert not self._thread.is_alive(), "the load hangs"
        self.failure = None

    def assert_undisturbed(self):
        assert not self.errors, f"the application saw {self.errors[:5]}"
        assert self.disconnects == 0, f"the application was disconnected {self.disconnects} times"

    def verify_file(self, path):
        complaints = self.ledger.verify(blocks.file_reader(path))
        assert not complaints, _few(complaints)

    def verify_volume(self, socket):
        handle = nbd.NBD()
        handle.connect_unix(str(socket))
        complaints = self.ledger.verify(lambda offset, size: handle.pread(size, offset))
        handle.shutdown()
        assert not complaints, _few(complaints)

    # -- the thread ------------------------------------------------------------------------------

    def _run(self):
        try:
            while not self._stopping.is_set():
                self._connect()
                if self._handle is None:
                    break
                self._serve_connection()
                if self._abandoned.is_set():
                    self._handle = None
                    break
                if self._handle is not None:  # ended because it was asked to
                    self._handle.shutdown()
                    break
                self.disconnects += 1
                if not self.follow:
                    if not self._stopping.is_set():
                        self.failure = "the connection was lost"
                    break
        except Exception as error:  # pylint: disable=broad-except
            self.failure = f"{type(error).__name__}: {error}"
        self._idle.set()

    def _connect(self):
        """Sets the handle; leaves it None only when asked to stop."""
        turn = 0
        while not self._stopping.is_set():
            handle = nbd.NBD()
            try:
                handle.aio_connect_unix(self.sockets[turn % len(self.sockets)])
                # A process that a hung disk holds takes connections and never greets.
                limit = machine_time.now() + 5 * environment.slowness()
                while (handle.aio_is_connecting() and not self._stopping.is_set()
                       and machine_time.now() < limit):
                    _drive(handle, 0.1)
                if handle.aio_is_ready():
                    self._handle = handle
                    return
            except nbd.Error as error:
                if not self.follow:
                    raise
                del error
            turn += 1
            if self._paused.is_set():
                self._idle.set()
            time.sleep(0.02)

    def _serve_connection(self):
        """Returns with the handle still there when asked to stop, without it when it was lost."""
        while not self._abandoned.is_set():
            alive = self._collect()
            if not alive:
                self._lose_connection()
                return
            if self._stopping.is_set() and not self._in_flight:
                return
            self._fill()
            if not self._in_flight and self._paused.is_set():
                self._idle.set()
            try:
                _drive(self._handle, 0.05 if self._in_flight else 0.005)
            except nbd.Error:
                pass  # _collect sees the dead handle

    def _lose_connection(self):
        self._handle = None
        self._in_flight.clear()
        self._busy.clear()

    def _collect(self):
        """Takes in the answers; false when the connection is dead."""
        while self._in_flight:
            try:
                cookie = self._handle.aio_peek_command_completed()
            except nbd.Error:
                break
            if cookie == 0:
                break
            write = self._in_flight.pop(cookie)
            try:
                self._handle.aio_command_completed(cookie)
                self._answered(write)
            except nbd.Error as error:
                self._failed(write, error)
        dead = self._handle.aio_is_dead() or self._handle.aio_is_closed()
        return not dead

    def _answered(self, write):
        now = machine_time.now()
        self.longest_latency = max(self.longest_latency, now - write.began)
        self.longest_pause = max(self.longest_pause,
                                 now - max(self._last_answer, self._next_write))
        self._last_answer = now
        self._busy -= write.versions.keys()
        for number, version in write.versions.items():
            self.ledger.answer(number, version)
        if write.flushes is not None:
            self.ledger.flushed = write.flushes
        self.completed += 1

    def _failed(self, write, error):
        self._busy -= write.versions.keys()
        if error.errnum in (errno.ENOTCONN, errno.ESHUTDOWN) and (
                self.follow or self._handle.aio_is_dead() or self._handle.aio_is_closed()):
            return
        self.errors.append(f"{error.errno} after {machine_time.now() - write.began:.1f} s")

    def _fill(self):
        while (len(self._in_flight) < self.depth and not self._stopping.is_set()
               and not self._paused.is_set()):
            now = machine_time.now()
            if self.rate:
                if now < self._next_write:
                    return
                self._next_write = now + 1.0 / self.rate
            try:
                self._submit(now)
            except nbd.Error:
                return  # the handle is dead; _collect sees it

    def _submit(self, now):
        self._since_flush += 1
        if self._since_flush > self.flush_every:
            self._since_flush = 0
            write = _Write(now, {}, flushes=list(self.ledger.answered))
            self._in_flight[self._handle.aio_flush()] = write
            return
        numbers = self._pick()
        zero = self._random.random() < self.zeroes
        versions = {number: self.ledger.submit(number, zero) for number in numbers}
        offset, size = numbers[0] * blocks.SIZE, len(numbers) * blocks.SIZE
        write = _Write(now, versions)
        self._busy |= versions.keys()
        if zero and self._random.random() < 0.5 and self._handle.can_trim():
            cookie = self._handle.aio_trim(size, offset)
        elif zero:
            cookie = self._handle.aio_zero(size, offset)
        else:
            # Not an nbd.Buffer: libnbd 1.14 never frees one that was in a command.
            write.buffer = bytearray().join(
                blocks.make(self.ledger.seed, number, version)
                for number, version in versions.items())
            fua = nbd.CMD_FLAG_FUA if self._random.random() < 0.02 else 0
            cookie = self._handle.aio_pwrite(write.buffer, offset, flags=fua)
        self._in_flight[cookie] = write

    def _pick(self):
        """A run of blocks of which none is in flight."""
        end = self.ledger.first + self.ledger.count
        while True:
            start = self._random.randrange(self.ledger.first, end)
            if start not in self._busy:
                break
        length = self._random.randint(1, self.max_run)
        numbers = [start]
        while len(numbers) < length and numbers[-1] + 1 < end and numbers[-1] + 1 not in self._busy:
            numbers.append(numbers[-1] + 1)
        return numbers


def _drive(handle, timeout):
    """One step of libnbd's state machine. nbd.poll() would keep Python's other threads waiting."""
    direction = handle.aio_get_direction()
    descriptor = handle.aio_get_fd()
    reading = [descriptor] if direction & nbd.AIO_DIRECTION_READ else []
    writing = [descriptor] if direction & nbd.AIO_DIRECTION_WRITE else []
    readable, writable, _ = select.select(reading, writing, [], timeout)
    if readable:
        handle.aio_notify_read()
    elif writable:
        handle.aio_notify_write()


def _few(complaints):
    more = f"\n… and {len(complaints) - 10} more" if len(complaints) > 10 else ""
    return f"{len(complaints)} blocks are wrong:\n" + "\n".join(complaints[:10]) + more
