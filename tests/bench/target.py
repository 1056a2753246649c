# SPDX-License-Identifier: BSD-3-Clause
"""What every target of a comparison has: a place, processes, files, and an NBD address for clients."""

import pathlib
import shutil
import subprocess
import time
import uuid

import backing
import load
import processors
from lib import processes
from lib.waiting import wait_for


# After so long the intents of this project are cleared (a checkpoint each 5 s, of what was not
# written since the one before).
REST_SECONDS = 12


class Unavailable(Exception):
    """This target can't be had here; the text says why."""


class Target:
    """A context manager; start() may raise Unavailable. Its processes carry its marker.

    `files` are the backings that its loads change, in the state of make(): equal to each other
    after each load if it `replicates`.
    """

    name = ""
    title = ""
    note = ""           # what a reader must know before comparing with it
    replicates = False
    only_jobs = ()      # it takes part in these alone
    quick = False       # part of --quick

    def __init__(self, directory, size):
        self.directory = pathlib.Path(directory) / self.name
        self.size = size
        self.marker = uuid.uuid4().hex
        self.files = []
        self.uri = ""
        self._started = []
        self._last_used = 0.0

    def __enter__(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
            load.fill(self.uri, self.directory)
            self.check_equal()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    def start(self):
        raise NotImplementedError

    def close(self):
        processes.kill_marked(self.marker)
        for process in self._started:
            process.wait(20)
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- for the runner --------------------------------------------------------------------------

    def pids(self):
        return processes.marked(self.marker)

    def prepare(self, mode, job):
        processors.place(self.pids(), mode)
        backing.reset(self.files, job.cached)
        if job.rested:
            time.sleep(max(0.0, self._last_used + REST_SECONDS - time.monotonic()))
        else:
            load.touch(self.uri, self.size)

    def measure(self, job, mode, seconds, seed, directory):
        """A sample, of a target that is prepared."""
        try:
            return load.run(job, self.uri, seconds, seed, mode, directory)
        finally:
            self._last_used = time.monotonic()

    def check_equal(self):
        """Nobody writes now: what does not replicate must not look as if it did."""
        if self.replicates and (difference := backing.difference(self.files)):
            raise load.LoadFailed(f"{self.name}: the replicas differ after the load: {difference}")

    # -- for those that begin processes of their own ---------------------------------------------

    def make_file(self, name):
        path = self.directory / name
        backing.make(path, self.size)
        self.files.append(path)
        return path

    def spawn(self, *command):
        log = self.directory / "log"
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True,
                env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "MIRRORDISK_TEST": self.marker})
        self._started.append(process)
        return process

    def wait_for(self, condition, what):
        def reached():
            for process in self._started:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args[0]} ended: {self._log()}")
            return condition()
        return wait_for(reached, what, report=self._log)

    def _log(self):
        return (self.directory / "log").read_text(errors="replace")[-2000:]
