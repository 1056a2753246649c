# SPDX-License-Identifier: BSD-3-Clause
"""Strangers at a port, in a process of their own: half-open, slow and lying connections, so many a
second. Runs as a program too (`python3 strangers.py HOST:PORT FROM RATE`), which obeys `go` and
`rest` on its input and says what it has done at the input's end."""

import json
import os
import pathlib
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import time

FLAGS = struct.pack(">I", 3)
HELD = 1500  # connections that are kept open as far as the server lets them


def option(number, data, length=None):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data) if length is None else length) + data


def beginnings(rng):
    """What a stranger says at once: nothing, a part, a lie, nonsense."""
    return [b"", FLAGS[:2], FLAGS + option(7, rng.randbytes(100), 8000),
            FLAGS + option(7, b"", 0xffffffff), FLAGS + option(6, struct.pack(">I", 0x7fffffff)),
            FLAGS + option(3, b"") + option(3, b"") + option(99, rng.randbytes(50)),
            rng.randbytes(rng.randrange(1, 500))]


class Crowd:
    """Makes `rate` connections a second, and has the slow ones among the old ones go on."""

    def __init__(self, address, source, rate):
        host, port = address.rsplit(":", 1)
        self._target = (host, int(port))
        self._source = (source, 0)
        self._rate = rate
        self._rng = random.Random(1)
        self._held = []
        self.made = 0

    def work(self, seconds):
        end = time.monotonic() + seconds
        for number in range(max(1, int(self._rate * seconds))):
            self._come()
            if number % 4 == 0:
                self._say_a_byte()
        time.sleep(max(0.0, end - time.monotonic()))

    def leave(self):
        while self._held:
            self._held.pop().close()

    def _come(self):
        stranger = socket.socket()
        stranger.setblocking(False)
        self._held.append(stranger)
        try:
            stranger.bind(self._source)
            stranger.connect_ex(self._target)
            poll = select.poll()
            poll.register(stranger, select.POLLOUT)
            poll.poll(50)
            stranger.send(self._rng.choice(beginnings(self._rng)))
        except OSError:
            pass  # thrown out already
        self.made += 1
        if len(self._held) > HELD:
            self._held.pop(0).close()

    def _say_a_byte(self):
        try:
            self._rng.choice(self._held).send(b"I")
        except OSError:
            pass


def main(address, source, rate):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.nice(10)  # what it costs to be a stranger is not the server's
    crowd = Crowd(address, source, rate)
    working = False
    while True:
        if select.select([sys.stdin], [], [], 0 if working else None)[0]:
            word = os.read(0, 100).decode()
            if not word:
                break
            working = word.split()[-1] == "go"
            if not working:
                crowd.leave()
        if working:
            crowd.work(0.05)
    print(json.dumps({"made": crowd.made}))


class Strangers:
    """The program, as tests use it: go(), and rest() when all are to leave, as often as you like;
    end() once."""

    def __init__(self, address, source="127.0.0.2", rate=500):
        self._process = subprocess.Popen(
            ["/usr/bin/python3", "-B", str(pathlib.Path(__file__)), address, source, str(rate)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def go(self):
        self._say(b"go\n")

    def rest(self):
        self._say(b"rest\n")

    def end(self):
        """How many connections there were."""
        out, _ = self._process.communicate(timeout=60)
        return json.loads(out)["made"]

    def _say(self, word):
        self._process.stdin.write(word)
        self._process.stdin.flush()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
