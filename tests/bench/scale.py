# SPDX-License-Identifier: BSD-3-Clause
"""What size and number cost: steps and memory of sparse volumes up to the largest file that ext4
takes, of up to a hundred volumes on one pair, and a large volume of which every block differs.
Each is done once: these are figures to see proportions by, not to compare programs."""

import tempfile
import time

import processors
from lib import sizes, split_brain
from lib.cluster import Cluster

SIZES = (("1 GiB", sizes.GIB), ("1 TiB", sizes.GIB << 10), ("16 TiB", sizes.LARGEST))
NUMBERS = (1, 10, 100)
DIRTY = 64 * sizes.GIB
IDLE_SECONDS = 10


class Scale:
    """run() leaves `sections`: a title and rows, of which the first is the heading."""

    def __init__(self, directory, say):
        self._directory = directory
        self._say = say
        self.sections = []

    def run(self):
        # The path of a Unix socket must be short.
        tempfile.tempdir = str(self._directory)
        self._section("One sparse volume, by its size (seconds, MiB)", (
            "size", "create", "promote, in sync", "switch", "engine killed, serves again",
            "standby back, in sync", "engine", "standby's mirrord", "engine, every block changed"),
            [self._size(title, size) for title, size in SIZES])
        self._section("Empty volumes on one pair, by their number (seconds each, MiB for all)", (
            "volumes", "create", "promote", "switch", "status", "engines", "standby's mirrord",
            "processor when idle, %"), [self._number(count) for count in NUMBERS])
        self._section("64 GiB, sparse, every block marked (seconds)", (
            "mark all by zeroing", "resync of what is marked", "full resync by digest"),
            [self._dirty()])

    def _section(self, title, heading, rows):
        rows = [[cell if isinstance(cell, str) else f"{cell:.3g}" for cell in row] for row in rows]
        self.sections.append({"title": title, "rows": [list(heading), *rows]})

    def _size(self, title, size):
        self._say(f"scale: {title}")
        with Cluster({"r0": {"size": str(size), "peer_timeout": "30s"}}, tls="psk") as cluster:
            alpha, beta = cluster.nodes
            cluster.start()
            seconds = [_timed(lambda: alpha.ctl("create", "r0")),
                       _timed(lambda: (alpha.ctl("promote", "r0"), cluster.wait_in_sync(alpha))),
                       _timed(lambda: alpha.ctl("switch", "r0", "--to", "beta"))]
            cluster.wait_in_sync(beta)
            beta.ctl("switch", "r0", "--to", "alpha")
            cluster.wait_in_sync(alpha)
            seconds.append(_timed(lambda: _kill_engine(cluster, alpha)))
            cluster.wait_in_sync(alpha)
            alpha.ctl("disconnect", "r0")
            seconds.append(_timed(lambda: (alpha.ctl("connect", "r0"),
                                           cluster.wait_in_sync(alpha))))
            engine = alpha.engine_pid("r0")
            memory = [sizes.memory(engine), sizes.memory(beta.daemon.pid)]
            before = sizes.memory(engine, "VmRSS") - memory[0]
            alpha.ctl("disconnect", "r0")
            sizes.zero_all(alpha)
            sizes.wait_map_written(cluster, alpha, size)
            return [title, *seconds, *memory, sizes.memory(engine, "VmHWM") - before]

    def _number(self, count):
        self._say(f"scale: {count} volumes")
        names = [f"v{number}" for number in range(count)]
        volumes = {name: {"size": "1GiB"} for name in names}
        with Cluster(volumes, tls="psk") as cluster:
            alpha, beta = cluster.nodes
            cluster.start()

            def each(*words):
                return _timed(lambda: [alpha.ctl(words[0], name, *words[1:]) for name in names])

            def all_in_sync():
                found = alpha.ctl("status", "--json", check=False).json["volumes"]
                return all(volume["state"] == "in-sync" for volume in found)

            steps = [each("create"), each("promote")]
            cluster.wait(all_in_sync, "all to be in sync", timeout=120)
            steps.append(each("switch", "--to", "beta"))
            cluster.wait(all_in_sync, "all to be in sync", timeout=120)
            status = _timed(lambda: beta.ctl("status"))
            engines = [beta.engine_pid(name) for name in names]
            pids = [*engines, alpha.daemon.pid, beta.daemon.pid]
            before = processors.seconds(pids)
            time.sleep(IDLE_SECONDS)
            idle = (processors.seconds(pids) - before) / IDLE_SECONDS * 100
            return [str(count), *(seconds / count for seconds in steps), status,
                    sum(map(_proportional, engines)), sizes.memory(alpha.daemon.pid), idle]

    def _dirty(self):
        self._say("scale: every block of 64 GiB")
        with Cluster({"r0": {"size": str(DIRTY), "peer_timeout": "30s"}}, tls="psk") as cluster:
            alpha = cluster.alpha
            cluster.start_active()
            alpha.ctl("disconnect", "r0")
            marking = _timed(lambda: sizes.zero_all(alpha))

            def resynced(*words):
                alpha.ctl(*words)
                cluster.wait(lambda: len(alpha.events("resync-done")) > done, "the resync",
                             timeout=900)
                cluster.wait_in_sync(alpha)
            done = len(alpha.events("resync-done"))
            marked = _timed(lambda: resynced("connect", "r0"))
            done = len(alpha.events("resync-done"))
            return [marking, marked, _timed(lambda: resynced("resync", "r0", "--full"))]


def _timed(act):
    began = time.monotonic()
    act()
    return time.monotonic() - began


def _kill_engine(cluster, node):
    old = node.engine_pid("r0")
    node.kill_engine("r0")

    def serves():
        if node.engine_pid("r0") in (None, old):
            return False
        split_brain.connect(node).shutdown()
        return True
    cluster.wait(serves, "the engine to be back", timeout=60)


def _proportional(pid):
    """In MiB: what it shares counts in part."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
