# SPDX-License-Identifier: BSD-3-Clause
"""Runs inside a guest: starts the commands that come through a virtio port, and tells what they say.

One JSON object a line, both ways; any number of commands at the same time. The other end is
channel.py.
"""

import base64
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

PORT_NAME = "mirrordisk-tests"
CHUNK = 32768


def open_port():
    while True:
        for entry in pathlib.Path("/sys/class/virtio-ports").glob("*"):
            if (entry / "name").read_text().strip() == PORT_NAME:
                return os.open(f"/dev/{entry.name}", os.O_RDWR)
        time.sleep(0.1)


class Agent:
    def __init__(self, port):
        self._port = port
        self._lock = threading.Lock()
        self._processes = {}

    def tell(self, **message):
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._port, data):]

    def hello(self):
        self.tell(hello=pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip())

    def serve(self):
        self.hello()
        with os.fdopen(os.dup(self._port), "rb") as lines:
            for line in lines:
                if line.strip():
                    self._obey(json.loads(line))

    def _obey(self, message):
        if "ping" in message:
            self.hello()
        elif "run" in message:
            self._start(message["id"], message["run"])
        elif process := self._processes.get(message["id"]):
            try:
                self._pass_on(process, message)
            except OSError:  # it has ended, or reads no more
                pass

    def _pass_on(self, process, message):
        if "input" in message:
            process.stdin.write(base64.b64decode(message["input"]))
        elif "end-of-input" in message:
            process.stdin.close()
        elif "kill" in message:
            os.killpg(process.pid, signal.SIGKILL)

    def _start(self, number, command):
        process = subprocess.Popen(["/bin/bash", "-c", command], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                                   start_new_session=True)
        self._processes[number] = process
        readers = [threading.Thread(target=self._forward, args=(number, kind, pipe), daemon=True)
                   for kind, pipe in (("out", process.stdout), ("err", process.stderr))]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._finish, args=(number, readers), daemon=True).start()

    def _forward(self, number, kind, pipe):
        while data := pipe.read(CHUNK):
            self.tell(id=number, **{kind: base64.b64encode(data).decode()})

    def _finish(self, number, readers):
        code = self._processes[number].wait()
        for reader in readers:  # what it left running may hold the pipes open
            reader.join(1)
        del self._processes[number]
        self.tell(id=number, exit=code)


if __name__ == "__main__":
    Agent(open_port()).serve()
