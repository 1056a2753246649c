# SPDX-License-Identifier: BSD-3-Clause
"""One node of a test: its directories, its mirrord and engines, and mirrorctl speaking to it."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess

from lib import credentials, environment, machine_time, processes
from lib.waiting import wait_for


LOSES_DATA = {"--force", "--overwrite-peer", "--replace"}


@dataclasses.dataclass
class Outcome:
    """How a mirrorctl call ended."""
    command: str
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"$ {self.command}\n{self.out}{self.err}[exit code {self.code}]"


class Node:
    """Owned by a Cluster, which writes the config file before start()."""

    def __init__(self, name, directory, marker):
        self.name = name
        self.directory = pathlib.Path(directory)
        self.run_dir = self.directory / "run"
        self.state_dir = self.directory / "state"
        self.config = self.directory / "mirrordisk.toml"
        self.log = self.directory / "mirrord.log"
        self.reports = self.directory / "sanitizer"
        self.address = ""  # HOST:PORT as in the config
        self.listen = ""   # where mirrord really listens, if a proxy stands in between
        self.tls = "psk"
        self.key_file = self.directory / "cluster.psk"
        self.marker = marker
        self.extra_environment = {}
        self.prefix = []   # what mirrord is started through
        self.ctl_prefix = []  # and mirrorctl
        self.program = environment.MIRRORD
        self.daemon = None
        for path in (self.run_dir, self.state_dir):
            path.mkdir(parents=True, exist_ok=True)

    # -- mirrord ---------------------------------------------------------------------------------

    def environment(self):
        return (environment.process_environment(self.marker, str(self.reports))
                | {"MIRRORDISK_CONFIG": str(self.config), "MIRRORDISK_NODE": self.name}
                | self.extra_environment)

    def launch(self):
        """Starts mirrord without waiting for it."""
        command = [*self.prefix, str(self.program), "--config", str(self.config), "--node",
                   self.name]
        if self.listen:
            command += ["--listen", self.listen]
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                           stderr=log, env=self.environment(),
                                           start_new_session=True)

    def start(self):
        self.launch()
        wait_for(self.answers, f"mirrord of {self.name} to answer", report=self.log_tail)

    def answers(self):
        if self.daemon.poll() is not None:
            raise RuntimeError(f"mirrord of {self.name} ended with {self.daemon.returncode}\n"
                               + self.log_tail())
        return self.ctl("version", check=False).code == 0

    def is_running(self):
        return self.daemon is not None and self.daemon.poll() is None

    def stop(self, timeout=30):
        """A clean stop; returns the exit code."""
        self.daemon.send_signal(signal.SIGTERM)
        code = self.daemon.wait(timeout * environment.slowness())
        self.daemon = None
        return code

    def kill_daemon(self):
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait(20)
            self.daemon = None

    def pause(self):
        """Stops mirrord in its tracks: a peer that is silent while its sockets live."""
        processes.send(self.daemon.pid, signal.SIGSTOP)

    def pause_engine(self, volume="r0"):
        processes.send(self.engine_pid(volume), signal.SIGSTOP)

    def go_on(self):
        processes.send(self.daemon.pid, signal.SIGCONT)

    # -- engines ---------------------------------------------------------------------------------

    def engine_pid(self, volume="r0"):
        return processes.read_pid(self.run_dir / f"{volume}.pid", self.marker)

    def _engine_pids(self):
        found = [processes.read_pid(path, self.marker) for path in self.run_dir.glob("*.pid")]
        return {pid for pid in found if pid}

    def kill_engine(self, volume="r0"):
        pid = self.engine_pid(volume)
        assert pid, f"no engine of {volume} on {self.name}\n{self.log_tail()}"
        processes.kill_hard(pid)

    def kill_everything(self):
        """The whole node dies at once: nothing gets to tidy up."""
        for pid in self.strike():
            processes.wait_gone(pid)

    def strike(self):
        """The same, without waiting for engines, which a hung disk may keep; their pids."""
        engines = self._engine_pids()
        # Stopped first, so that the engine writes nothing without mirrord, which is to end before
        # it: a signal takes its time, and mirrord must not see the engine die.
        for pid in engines:
            processes.send(pid, signal.SIGSTOP)
        self.kill_daemon()
        engines |= self._engine_pids()
        for pid in engines:
            processes.send(pid, signal.SIGKILL)
        return engines

    # -- what it says ----------------------------------------------------------------------------

    def ctl(self, *arguments, check=True, timeout=90, confirm=True):
        """`confirm`: says --yes to verbs that lose data, since there is no terminal to ask at."""
        if confirm and arguments[:1] != ("init",) and LOSES_DATA.intersection(arguments):
            arguments = (*arguments, *(["--yes"] if "--yes" not in arguments else []))
        command = [*self.ctl_prefix, str(environment.MIRRORCTL), *map(str, arguments)]
        done = machine_time.run(command, timeout * environment.slowness(),
                                stdin=subprocess.DEVNULL, env=self.environment())
        words = " ".join(["mirrorctl", *map(str, arguments)])
        outcome = Outcome(f"[{self.name}] {words}", done.returncode, done.stdout, done.stderr)
        if check and done.returncode != 0:
            raise AssertionError(f"{outcome}\n{self.log_tail()}")
        return outcome

    def status(self, volume="r0"):
        """The volume's object of `status --json`."""
        outcome = self.ctl("status", volume, "--json", check=False)
        assert outcome.out, str(outcome)  # whatever the code: 3 is a peer that can't be asked
        return next(entry for entry in outcome.json["volumes"] if entry["name"] == volume)

    def state(self, volume="r0"):
        return self.status(volume)["state"]

    def peer(self, volume="r0"):
        return self.status(volume)["peers"][0]

    def events(self, event_id=None, volume=None):
        lines = []
        # Newest last, rotated files first.
        for path in sorted(self.state_dir.glob("events.jsonl*"), reverse=True):
            lines += path.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        return [event for event in events
                if (event_id is None or event["id"] == event_id)
                and (volume is None or event["volume"] == volume)]

    def socket(self, volume="r0"):
        """Where applications have the volume: at the door that MIRRORDISK_TEST_DOOR names."""
        return self.socket_at(environment.DOOR, volume)

    def socket_at(self, door, volume="r0"):
        """`nbdkit` or `express`."""
        return self.run_dir / (f"{volume}.express.sock" if door == "express" else f"{volume}.sock")

    def control_socket(self, volume="r0"):
        """The engine's control requests are asked at nbdkit's door alone."""
        return self.socket_at("nbdkit", volume)

    def uri(self, volume="r0"):
        return f"nbd+unix:///?socket={self.socket(volume)}"

    def connect(self, handle):
        """Connects an nbd.NBD over TCP, as a peer."""
        credentials.show(handle, self)
        handle.connect_tcp(*self.address.rsplit(":", 1))

    @property
    def door(self):
        return credentials.Door(self.address, self.tls, self.key_file)

    def tcp_uri(self, export):
        return credentials.uri(self, export)

    def meta(self, volume="r0"):
        return self.state_dir / volume / "meta"

    def log_tail(self, lines=40):
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return f"--- {self.name} has no log"
        tail = "\n".join(text.splitlines()[-lines:])
        return f"--- {self.name} ({self.log}):\n{tail}"

    def sanitizer_reports(self):
        return [path for path in self.directory.glob("sanitizer.*") if os.path.getsize(path)]
