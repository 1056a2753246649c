# SPDX-License-Identifier: BSD-3-Clause
"""The host's end of the agent: commands in a guest, with their output as it comes."""

import base64
import dataclasses
import json
import queue
import socket
import threading
import time

from lib import machine_time

CHUNK = 32768
# Time limits are for an idle machine; on a busy one a guest without KVM is many times slower.
PATIENCE = 4


class GuestLost(Exception):
    """The guest went away, or was booted anew, before the command had ended."""


@dataclasses.dataclass
class Outcome:
    """How a command ended; `code` is negative for a signal."""
    where: str
    command: str
    code: int
    out: str
    err: str

    def __str__(self):
        return f"{self.where}$ {self.command}\n{self.out}{self.err}[exit code {self.code}]"


class Command:
    """A command that runs in a guest. Its lines of output can be read while it does."""

    def __init__(self, channel, number, text):
        self._channel = channel
        self._number = number
        self.text = text
        self.out = bytearray()
        self.err = bytearray()
        self.code = None
        self.lost = ""
        self._ended = threading.Event()
        self._partial = bytearray()
        self._lines = queue.Queue()

    # -- called by the channel's thread ----------------------------------------------------------

    def take(self, message):
        if "out" in message:
            data = base64.b64decode(message["out"])
            self.out += data
            self._partial += data
            *whole, self._partial = self._partial.split(b"\n")
            for line in whole:
                self._lines.put(bytes(line).decode(errors="replace"))
        elif "err" in message:
            self.err += base64.b64decode(message["err"])
        elif "exit" in message:
            self.code = message["exit"]
            self._ended.set()

    def lose(self, why):
        self.lost = why
        self._ended.set()

    # -- called by tests -------------------------------------------------------------------------

    def running(self):
        return not self._ended.is_set()

    def lines(self):
        """The lines of standard output that were not asked for yet."""
        found = []
        while True:
            try:
                found.append(self._lines.get_nowait())
            except queue.Empty:
                return found

    def send(self, data):
        for start in range(0, len(data), CHUNK):
            piece = base64.b64encode(data[start:start + CHUNK]).decode()
            self._channel.tell(id=self._number, input=piece)

    def end_input(self):
        self._channel.tell(id=self._number, **{"end-of-input": True})

    def kill(self):
        self._channel.tell(id=self._number, kill=True)

    def wait(self, timeout):
        deadline = machine_time.now() + timeout * PATIENCE
        while not self._ended.wait(0.2):
            if machine_time.now() >= deadline:
                self.kill()
                self._ended.wait(5)
                raise AssertionError(
                    f"not done after {timeout * PATIENCE:.0f} s: {self.outcome()}")
        if self.lost:
            raise GuestLost(f"{self.lost}: {self.outcome()}")
        return self.outcome()

    def outcome(self):
        return Outcome(self._channel.name, self.text, self.code,
                       self.out.decode(errors="replace"), self.err.decode(errors="replace"))


class Channel:
    """One connection to a guest's agent, for one life of its QEMU."""

    def __init__(self, name, path):
        self.name = name
        self.boot_id = ""
        self._path = path
        self._lock = threading.Lock()
        self._commands = {}
        self._next = 1
        self._closed = False
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self):
        self._closed = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._lose_all("the guest is gone")

    def tell(self, **message):
        data = json.dumps(message).encode() + b"\n"
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError as error:
            raise GuestLost(f"{self.name}: {error}") from error

    def ping(self):
        self.tell(ping=True)

    def start(self, text):
        with self._lock:
            number = self._next
            self._next += 1
            command = self._commands[number] = Command(self, number, text)
        self.tell(id=number, run=text)
        return command

    def wait_for_boot(self, timeout, other_than="", alive=lambda: None):
        """Until the agent of another boot than that one has answered; returns the boot's id."""
        deadline = machine_time.now() + timeout
        while self.boot_id in ("", other_than):
            alive()
            if machine_time.now() >= deadline:
                raise AssertionError(f"{self.name} is not up after {timeout:.0f} s")
            time.sleep(0.05)
        return self.boot_id

    def _listen(self):
        buffer = bytearray()
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                self._lose_all("the guest is gone")
                self._socket.close()
                return
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                try:
                    self._take(json.loads(line))
                except ValueError:  # what a reset guest had begun to say
                    pass

    def _take(self, message):
        if "hello" in message:
            if self.boot_id not in ("", message["hello"]):
                self._lose_all("the guest was booted anew")
            self.boot_id = message["hello"]
            return
        with self._lock:
            command = self._commands.get(message["id"])
        if command:
            command.take(message)

    def _lose_all(self, why):
        with self._lock:
            commands, self._commands = self._commands, {}
        for command in commands.values():
            if command.running():
                command.lose(why)
