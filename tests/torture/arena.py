# SPDX-License-Identifier: BSD-3-Clause
"""Where a run takes place: two nodes, the link, the load, the record, the way back."""

import collections
import contextlib
import threading
import time

import checker
from excuses import Excuses
from lib import clocks, disks, environment, machine_time, processes
from lib.cluster import Cluster
from lib.waiting import wait_for
from nodedisk import NodeDisk
from record import Record
from registry import NotNow
from stamps import SECTOR
from writers import Load

MIB = 1024 * 1024
VOLUME_MIB = 32
HEAL_SECONDS = 90
MARGIN = 3.0  # beyond a promised time, on a busy machine


class Violation(Exception):
    """A promise was not kept."""


class Arena:
    """A context manager; the run's thread calls everything."""

    def __init__(self, seed, layout, small_disks=False, say=lambda text: None):
        self.say = say
        self.began = time.time()
        self.layout = layout
        settings = {"size": f"{VOLUME_MIB}MiB", "disk_timeout": f"{self.disk_timeout():.0f}s",
                    "remote_verbs": "full"}  # any node is asked to cut off the load
        self.cluster = Cluster({"r0": settings}, proxied=True)
        self.disks = {}
        if small_disks:
            self._make_disks()
        else:
            self.layout = layout.without_faulty_disks()
        self.record = Record(seed, VOLUME_MIB * MIB // SECTOR)
        self.load = Load(self.record, [node.socket() for node in self.cluster.nodes])
        self.given_up = 0
        self.checks = 0
        self.refusals = collections.Counter()
        self.engine_kills = collections.Counter()
        self.excuses = Excuses(self)
        self._last_active = self.cluster.alpha
        self._expected_down = set()
        self._disconnected = False
        self._clocks = {node.name: 0 for node in self.nodes}

    def _make_disks(self):
        if disks.why_not():
            self.layout = self.layout.without_faulty_disks()
        for node in self.cluster.nodes:
            disk = NodeDisk(self.cluster, node, VOLUME_MIB * MIB, 8 * MIB,
                            node.name in self.layout.faulty)
            self.disks[node.name] = disk
            self.cluster.volumes["r0"][f"backing.{node.name}"] = str(disk.path)
        self.cluster.write_config()

    def __enter__(self):
        try:
            self.cluster.start()
            # A disk behind FUSE never looks empty.
            self.cluster.alpha.ctl("create", "r0", "--overwrite-peer", "--yes")
            self.cluster.alpha.ctl("promote", "r0")
            self.cluster.wait_in_sync(self.cluster.alpha)
            self.load.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, value, trace):
        self.load.stop()
        self.close()

    def close(self):
        for disk in self.disks.values():
            if self.cluster.keep:
                disk.keep_image()
            disk.close()
        self.cluster.close()
        clocks.sweep(self.began)

    # -- who is who ------------------------------------------------------------------------------

    @property
    def nodes(self):
        return self.cluster.nodes

    @property
    def proxies(self):
        return self.cluster.proxies.values()

    def active(self):
        """The node that serves; waits for one that is on its way, and helps one that waits."""
        def serves():
            node = self.cluster.active()
            if node is None and self._last_active.is_running():
                # It was away and can't ask its peer; only a person knows that nobody took over.
                heir = self._heir()
                if heir.is_running():
                    heir.ctl("promote", "r0", check=False)
            return node
        node = self.wait(serves, "a node to be active")
        self._last_active = node
        return node

    def roles(self):
        """(active, standby)"""
        active = self.active()
        return active, self.cluster.other(active)

    def peer_timeout(self):
        return 2.0 * environment.slowness()

    def disk_timeout(self):
        """0: never"""
        return self.layout.disk_timeout * environment.slowness()

    def disk(self, node, faulty=False):
        """With `faulty`, one that can hang and fail."""
        if node.name not in self.disks:
            raise NotNow("small file systems can be made by root only")
        disk = self.disks[node.name]
        if faulty and not disk.fuse:
            raise NotNow(disks.why_not() or f"in this run {node.name} has a disk that never fails")
        return disk

    # -- doing -----------------------------------------------------------------------------------

    def run_for(self, seconds):
        """Lets the load work: how long a fault lasts, not a wait for anything."""
        time.sleep(seconds)

    def wait(self, condition, what, timeout=30.0):
        return wait_for(condition, what, timeout, report=self.cluster.logs)

    @staticmethod
    def wait_if_it_comes(condition, seconds):
        deadline = machine_time.now() + seconds
        while not condition() and machine_time.now() < deadline:
            time.sleep(0.05)

    def ask(self, node, *words):
        """A command that may be refused, as things are."""
        outcome = node.ctl(*words, check=False)
        self._disconnected = self._disconnected or words[0] == "disconnect"
        if outcome.code != 0:
            self.refusals[words[0]] += 1
            self.say(f"refused: {outcome}")
        return outcome

    @contextlib.contextmanager
    def bounded(self, seconds, what):
        """What happens in it holds the application's writes for so long at most."""
        before = self.load.take_longest_pause()
        stood = machine_time.stood_still()
        yield
        pause = self.load.take_longest_pause()
        self.load.longest_pause = max(before, pause)
        self.say(f"   {what}: writes waited {pause:.2f} s")
        # The nodes' own clocks do not stop with the machine.
        ran = machine_time.stood_still() == stood
        if ran and pause > seconds + MARGIN * environment.slowness():
            raise Violation(f"writes waited {pause:.1f} s, {seconds:.1f} s were promised: {what}")

    def set_clock(self, node, seconds):
        """How far it is off, when the node starts next."""
        clocks.sweep(self.began)
        self._clocks[node.name] = seconds
        node.extra_environment = clocks.wrong_by(seconds) if seconds else {}

    def clock(self, node):
        return self._clocks[node.name]

    def kill_engine(self, node):
        if node.engine_pid() is None:
            return
        self.engine_kills[node.name] += 1
        self._let_go(node)
        node.kill_engine()

    def kill_daemon(self, node):
        self._expected_down.add(node.name)
        self._let_go(node)
        node.kill_daemon()

    def kill_node(self, node):
        self._let_go(node)
        for pid in self.strike(node):
            processes.wait_gone(pid)

    def strike(self, node):
        """As kill_node(), but what waits for a hung disk ends with that; the pids."""
        self._expected_down.add(node.name)
        return node.strike()

    def _let_go(self, node):
        """The kernel keeps a killed process until the disk that it waits for has answered."""
        disk = self.disks.get(node.name)
        if disk and disk.is_hung:
            threading.Timer(0.3, disk.go_on).start()

    def stop_daemon(self, node):
        self._expected_down.add(node.name)
        self._let_go(node)
        code = node.stop()
        if code != 0:
            raise Violation(f"mirrord of {node.name} ended with {code} when it was asked to stop")

    def start(self, node):
        if node.is_running():
            return
        node.start()
        self._expected_down.discard(node.name)

    def promote_forced(self, heir, how="--force"):
        """Promotes without the peer; returns what the daemon says may be lost."""
        plain = heir.ctl("promote", "r0", check=False)
        if plain.code == 0:
            self._last_active = heir
            if self.excuses.has_the_say(heir):
                return ""
            raise Violation(f"{heir.name} was promoted without its peer's agreement:\n{plain}")
        answer = {}

        def accepted():
            outcome = heir.ctl("promote", "r0", how, "--json", check=False)
            assert outcome.code == 0, str(outcome)
            answer.update(outcome.json)
            return True
        self.wait(accepted, f"{heir.name} to take over")
        self._last_active = heir
        if not answer.get("loss"):
            raise Violation(f"the promotion of {heir.name} did not name its loss: {answer}")
        return answer["loss"]

    def take_over(self, heir):
        """Plainly: the other node is there and knows that this one has all that it has, and more."""
        self.wait(lambda: self.ask(heir, "promote", "r0").code == 0, f"{heir.name} to take over")
        self._last_active = heir

    # -- the way back ----------------------------------------------------------------------------

    def heal(self):
        """Takes all faults away, and waits until the mirror is whole again."""
        self.load.depth = self.load.DEPTH
        for disk in self.disks.values():
            disk.mend()
        self.assert_alive()
        for proxy in self.proxies:
            proxy.release()
            proxy.calm()
            proxy.open()
        for node in self.nodes:
            if node.is_running():
                node.go_on()
        # The last active first: it goes on by itself, and the other one then finds it.
        for node in sorted(self.nodes, key=lambda node: node is not self._last_active):
            self.start(node)
        self._have_an_active()
        self._wait_in_sync()
        self.assert_alive()
        self.excuses.forget()
        self.load.errors.clear()

    def _have_an_active(self):
        def serves():
            if self.cluster.active():
                return True
            return self.ask(self._heir(), "promote", "r0").code == 0
        self.wait(serves, "a node to serve again", HEAL_SECONDS)

    def _heir(self):
        """Who is to serve where nobody does: the last active, but for a replica that was left out."""
        last = self._last_active
        return self.cluster.other(last) if last.status()["replica"]["state"] == "failed" else last

    def leave_failed_disk(self, active):
        """The active's replica was left out: the node with the good copy takes over."""
        heir = self.cluster.other(active)
        words = ("switch", "r0", "--to", heir.name, "--disconnect-clients")
        self.wait(lambda: heir.engine_pid() or self.ask(active, *words).code == 0,
                  f"{heir.name} to take over from a failed disk")
        self._last_active = heir

    def _wait_in_sync(self):
        def healthy():
            active = self.cluster.active()
            assert active, "no node is active"
            status = active.status()
            if status["replica"]["state"] == "failed":
                self.leave_failed_disk(active)
            if status["state"] == "diverged":
                raise Violation(f"diverged, though nobody forced anything: {status['why']}")
            if status["state"] == "broken" and self._disconnected:
                self._disconnected = self.ask(active, "connect", "r0").code != 0
            assert status["state"] == "in-sync", f"{status['state']}: {status['why']}"
            return active
        active = self.wait(healthy, "the mirror to be in sync again", HEAL_SECONDS)
        self._last_active = active
        other = self.cluster.other(active)
        role = other.status()["role"]
        if role != "standby" or other.engine_pid():
            raise Violation(f"{active.name} is active, and {other.name} is {role}, "
                            f"with an engine: {other.engine_pid()}")

    def assert_alive(self):
        """No process ended by itself."""
        for node in self.nodes:
            if node.name not in self._expected_down and not node.is_running():
                raise Violation(f"mirrord of {node.name} ended by itself\n{node.log_tail()}")
            died = len(node.events("engine-died"))
            if died > self.engine_kills[node.name]:
                raise Violation(f"the engine on {node.name} died {died} times, and was killed "
                                f"{self.engine_kills[node.name]} times\n{node.log_tail()}")
        self.assert_load()

    def assert_load(self):
        if self.load.failure:
            raise RuntimeError(f"the load ended: {self.load.failure}")
        if self.load.complaints:
            raise Violation("\n".join(self.load.complaints))
        if not self.load.errors:
            return
        # The event comes after the answer.
        self.wait_if_it_comes(self.excuses.no_copy_was_left, 2)
        if not self.excuses.no_copy_was_left():
            raise Violation("\n".join(self.load.errors))

    # -- checking --------------------------------------------------------------------------------

    def image(self, node):
        """What is on the node's disk."""
        disk = self.disks.get(node.name)
        return disk.image if disk else self.cluster.backing(node)

    def check_image(self, node):
        """Every answered write is in this replica; what never got an answer may still arrive."""
        self.checks += 1

        def clean():
            complaints = checker.image_complaints(self.record, self.image(node), False)
            assert not complaints, "\n".join(complaints)
            return True
        try:
            # The kernel may still be delivering what the other node sent before it died.
            wait_for(clean, f"{node.name} to have every answered write", timeout=3, interval=0.3)
        except AssertionError as error:
            raise Violation(str(error)) from error

    def check(self, how):
        """After heal(): both replicas are equal and right. The load is paused meanwhile."""
        self.load.pause()
        active, standby = self.roles()
        self._wait_in_sync()
        if how != "quiet":
            active.ctl("demote", "r0", "--disconnect-clients")
        self._compare()
        if how != "quiet":
            heir = standby if how.endswith("other") else active
            heir.ctl("promote", "r0")
            self._last_active = heir
        self.assert_load()
        self.load.go_on()

    def _compare(self):
        self.checks += 1
        images = [self.image(node) for node in self.nodes]
        complaints = checker.differences(*images)
        complaints += checker.image_complaints(self.record, images[0], not complaints)
        if complaints:
            raise Violation("\n".join(complaints))
