# SPDX-License-Identifier: BSD-3-Clause
"""The pretended machines alpha and beta: a mirrord each, and all that belongs to them."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import uuid


class StepFailed(Exception):
    """A command of the demo failed; the text says which and how."""


def run(*command, timeout=60, check=True, env=None):
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, check=False, env=env)
    if check and done.returncode != 0:
        raise StepFailed(f"$ {' '.join(words)}\n{done.stdout}{done.stderr}"
                         f"[exit code {done.returncode}]")
    return done


def wait_until(condition, what, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise StepFailed(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.02)
    return value


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Processes:
    """All processes of the demo carry a mark in their environment, so that none can be missed."""

    def __init__(self):
        self.mark = uuid.uuid4().hex

    def environment(self, owner, **extra):
        return {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8",
                "MIRRORDISK_DEMO": f"{self.mark}-{owner}"} | extra

    def find(self, owner=""):
        wanted = f"MIRRORDISK_DEMO={self.mark}-{owner}".encode()
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                variables = pathlib.Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(variable.startswith(wanted) for variable in variables):
                found.append(int(entry))
        return found

    def kill(self, owner=""):
        """SIGKILL to all at once, until none is left; returns how many there were."""
        total = set()
        while pids := self.find(owner):
            total |= set(pids)
            # Stopped first: a supervisor must not start anew what dies before it.
            for signal_number in (signal.SIGSTOP, signal.SIGKILL):
                for pid in pids:
                    try:
                        os.kill(pid, signal_number)
                    except ProcessLookupError:
                        pass
            time.sleep(0.01)
        return len(total)


class Machine:
    def __init__(self, name, directory, build, processes):
        self.name = name
        self.directory = pathlib.Path(directory) / name
        self.run_dir = self.directory / "run"
        self.state_dir = self.directory / "state"
        self.backing = self.directory / "r0.img"
        self.log = self.directory / "mirrord.log"
        self.address = f"127.0.0.1:{free_port()}"
        self.processes = processes
        self._build = pathlib.Path(build)
        self._config = pathlib.Path(directory) / "mirrordisk.toml"
        self._daemon = None
        for path in (self.run_dir, self.state_dir):
            path.mkdir(parents=True)

    def environment(self):
        return self.processes.environment(
            self.name, MIRRORDISK_CONFIG=str(self._config), MIRRORDISK_NODE=self.name,
            MIRRORDISK_PLUGIN=str(self._build / "plugin" / "nbdkit-mirror-plugin.so"))

    def start(self):
        with open(self.log, "ab") as log:
            self._daemon = subprocess.Popen(
                [str(self._build / "daemon" / "mirrord")], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=self.environment(), start_new_session=True)

        def ready():
            if self._daemon.poll() is not None:
                raise StepFailed(f"mirrord of {self.name} ended: {self.log.read_text()}")
            return self.ctl("version", check=False).returncode == 0
        wait_until(ready, f"mirrord of {self.name}")

    def kill(self):
        """Everything that runs on this machine, at once."""
        count = self.processes.kill(self.name)
        if self._daemon:
            self._daemon.wait()
            self._daemon = None
        return count

    def ctl(self, *arguments, check=True, timeout=90):
        return run(self._build / "tools" / "mirrorctl", *arguments, check=check, timeout=timeout,
                   env=self.environment())

    def status(self):
        done = self.ctl("status", "r0", "--json", check=False)
        if done.returncode == 3:
            raise StepFailed(done.stderr)
        return json.loads(done.stdout)["volumes"][0]

    @property
    def uri(self):
        return f"nbd+unix:///?socket={self.run_dir}/r0.sock"


def write_config(path, machines, device):
    lines = []
    for machine in machines:
        lines += [f"[node.{machine.name}]", f'address = "{machine.address}"',
                  f'run_dir = "{machine.run_dir}"', f'state_dir = "{machine.state_dir}"', ""]
    lines += ["[volume.r0]", 'size = "256MiB"', 'mode = "sync"', 'peer_timeout = "3s"']
    if device:
        lines.append(f'device = "{device}"')
    lines += [f'backing.{machine.name} = "{machine.backing}"' for machine in machines]
    pathlib.Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")
