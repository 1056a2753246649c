# SPDX-License-Identifier: BSD-3-Clause
"""What replication costs beside the writes: a resync, held against nbdcopy of the same two files,
how long an application's writes take meanwhile, and a switch."""

import datetime
import subprocess
import time

import backing
import jobs
import load
import processors
from lib import environment

from mirrordisk import VOLUME, Mirrordisk
from stock import Stock

CONNECTION = ("--connections=1", "--request-size=262144")
# "mirror" is until the last block is sent.
TITLES = {
    "mirror": "mirrordisk",
    "mirror-in-sync": "mirrordisk: from the command until in sync, durable",
    "nbdcopy": "nbdcopy, one connection, 256 KiB",
    "nbdcopy-flush": "nbdcopy, the same and --flush",
    "mirror-at-rest": "mirrordisk without a resync",
    "mirror-resyncing": "mirrordisk beside the resync of a full volume",
}
# The application beside a resync.
BESIDE = jobs.Job("beside", "", "", fio=({"rw": "randwrite", "bs": 4 * jobs.KIB, "iodepth": 1},))


class _Pair(Mirrordisk):
    name = "resync"


class _Remote(Stock):
    """nbdkit on a file that is not its own."""
    name = "copy"

    def __init__(self, directory, file):
        super().__init__(directory, 0)
        self._file = file

    def make_file(self, name):
        return self._file


class Resync:
    """A context manager, with a pair of nodes for all rounds."""

    def __init__(self, directory, size, seconds):
        self._pair = _Pair(directory, size)
        self._directory = directory
        self._size = size
        self._seconds = seconds

    def __enter__(self):
        self._pair.__enter__()
        return self

    def __exit__(self, kind, value, trace):
        self._pair.close()

    @property
    def _cluster(self):
        return self._pair.cluster

    def measure(self, job, mode, seed):
        """target → a sample of the job."""
        how = {jobs.RESYNC_FULL: self._full, jobs.RESYNC_PART: self._part,
               jobs.RESYNC_LATENCY: self._latency, jobs.SWITCH: self._switch}
        return how[job.name](mode, seed)

    # -- resync ----------------------------------------------------------------------------------

    def _full(self, mode, seed):
        self._dirty_all(mode, seed)
        sending, all_of_it = self._resync()
        found = {"mirror": self._speed(sending), "mirror-in-sync": self._speed(all_of_it)}
        # The same two files: the volume rests meanwhile, and the copy changes no byte.
        self._cluster.alpha.ctl("demote", VOLUME)
        found["nbdcopy"] = self._speed(self._copy(mode))
        found["nbdcopy-flush"] = self._speed(self._copy(mode, "--flush"))
        self._pair.check_equal()
        self._cluster.alpha.ctl("promote", VOLUME)
        self._cluster.wait_in_sync(self._cluster.alpha)
        return found

    def _part(self, mode, seed):
        self._dirty(mode, seed, part=1)
        seconds = self._resync()[1]
        self._pair.check_equal()
        return {"mirror-in-sync": {"value": seconds}}

    def _speed(self, seconds):
        return {"value": self._size / seconds / 1e6}

    def _dirty_all(self, mode, seed):
        # In large pieces: both files are evicted, and read, before they are used.
        self._dirty(mode, seed, block=jobs.MIB)

    def _dirty(self, mode, seed, **how):
        alpha = self._cluster.alpha
        alpha.ctl("disconnect", VOLUME)
        self._cluster.wait_state(alpha, "broken")
        load.fill(self._pair.uri, self._pair.directory, seed, **how)
        self._settle(mode)

    def _settle(self, mode):
        source, target = self._pair.files
        processors.place(self._pair.pids(), mode)
        # The target's pages, too, are there before: a host that hands memory out for the first time
        # is slower than a disk, and only who comes first in a round would wait for it.
        backing.reset([source, target], cached=True)

    def _resync(self):
        """Seconds of the sending, and from the command until both were durably equal."""
        began = time.time()
        self._begin()
        done = self._ended()
        self._cluster.wait_in_sync(self._cluster.alpha)
        return max(done["resync-done"] - done["resync-started"], 0.001), done["in-sync"] - began

    def _begin(self):
        self._before = len(self._cluster.alpha.events())
        self._cluster.alpha.ctl("connect", VOLUME)

    def _happened(self):
        """Event → its time, of those since _begin()."""
        return {event["id"]: _time(event["time"])
                for event in self._cluster.alpha.events()[self._before:]}

    def _ended(self):
        self._cluster.wait(lambda: "in-sync" in self._happened(), "the resync to end", timeout=600)
        return self._happened()

    # -- beside a resync -------------------------------------------------------------------------

    def _latency(self, mode, seed):
        self._settle(mode)
        load.touch(self._pair.uri, self._size)
        at_rest = self._application(mode, seed, self._seconds)
        self._dirty_all(mode, seed)
        self._begin()
        self._cluster.wait(lambda: "resync-started" in self._happened(), "the resync to begin")
        beside = self._application(mode, seed, self._seconds)
        ended = time.time()
        done = self._ended()
        # A resync that is over before the load is would make this the latency of something else.
        beside["beside_resync"] = min(
            1.0, max(0.0, 1 - (ended - done["in-sync"]) / self._seconds))
        beside["resync_seconds"] = done["in-sync"] - done["resync-started"]
        self._cluster.wait_in_sync(self._cluster.alpha)
        self._pair.check_equal()
        return {"mirror-at-rest": at_rest, "mirror-resyncing": beside}

    def _application(self, mode, seed, seconds):
        sample = load.run(BESIDE, self._pair.uri, seconds, seed, mode, self._pair.directory)
        sample.pop("load_cpu_seconds")
        return sample | {"value": sample["latency_us"]["99"],
                         "operations_per_second": sample["value"]}

    # -- nbdcopy ---------------------------------------------------------------------------------

    def _copy(self, mode, *options):
        """Seconds."""
        source, target = self._pair.files
        self._settle(mode)
        with_server = _Remote(self._directory, target)
        with_server.directory.mkdir(exist_ok=True)
        try:
            port = with_server.start_remote()
            processors.place(with_server.pids(), mode)
            command = ["nbdcopy", *CONNECTION, *options, source, f"nbd://127.0.0.1:{port}"]
            began = time.monotonic()
            subprocess.run(["taskset", "-c", ",".join(map(str, processors.MODES[mode])), *command],
                           check=True, env={"PATH": "/usr/bin:/bin"}, timeout=600)
            return time.monotonic() - began
        finally:
            with_server.close()

    # -- switch ----------------------------------------------------------------------------------

    def _switch(self, mode, _):
        """There and back; the slower one counts."""
        processors.place(self._pair.pids(), mode)
        found = []
        for node in (self._cluster.beta, self._cluster.alpha):
            began = time.monotonic()
            node.ctl("switch", VOLUME, "--to", node.name, timeout=60 / environment.slowness())
            found.append(time.monotonic() - began)
            self._cluster.wait_in_sync(node)
        self._pair.check_equal()
        return {"mirror": {"value": max(found)}}


def _time(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
