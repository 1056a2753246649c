# SPDX-License-Identifier: BSD-3-Clause
"""Where a run takes place: two nodes, the link, the load, the record, the way back."""

import collections
import time

import checker
from lib import environment, machine_time
from lib.cluster import Cluster
from lib.waiting import wait_for
from record import Record
from stamps import SECTOR
from writers import Load

MIB = 1024 * 1024
VOLUME_MIB = 32
HEAL_SECONDS = 90


class Violation(Exception):
    """A promise was not kept."""


class Arena:
    """A context manager; the run's thread calls everything."""

    def __init__(self, seed, disks=False, say=lambda text: None):
        self.say = say
        self.cluster = Cluster({"r0": {"size": f"{VOLUME_MIB}MiB"}}, proxied=True)
        self.disks = {}
        if disks:
            self._make_small_disks()
        self.record = Record(seed, VOLUME_MIB * MIB // SECTOR)
        self.load = Load(self.record, [node.socket() for node in self.cluster.nodes])
        self.given_up = 0
        self.checks = 0
        self.refusals = collections.Counter()
        self.engine_kills = collections.Counter()
        self._last_active = self.cluster.alpha
        self._expected_down = set()
        self._disconnected = False

    def _make_small_disks(self):
        """Backings on file systems of their own, which can be filled up."""
        for node in self.cluster.nodes:
            point = self.cluster.mount_tmpfs(f"disk-{node.name}", VOLUME_MIB + 8)
            self.disks[node.name] = point
            self.cluster.volumes["r0"][f"backing.{node.name}"] = str(point / "r0.img")
        self.cluster.write_config()

    def __enter__(self):
        self.cluster.start_active()
        self.load.start()
        return self

    def __exit__(self, kind, value, trace):
        self.load.stop()
        self.cluster.close()

    # -- who is who ------------------------------------------------------------------------------

    @property
    def nodes(self):
        return self.cluster.nodes

    @property
    def proxies(self):
        return self.cluster.proxies.values()

    def active(self):
        """The node that serves; waits for one that is on its way."""
        node = self.wait(self.cluster.active, "a node to be active")
        self._last_active = node
        return node

    def roles(self):
        """(active, standby)"""
        active = self.active()
        return active, self.cluster.other(active)

    def peer_timeout(self):
        return 2.0 * environment.slowness()

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

    def kill_engine(self, node):
        if node.engine_pid() is None:
            return
        self.engine_kills[node.name] += 1
        node.kill_engine()

    def kill_daemon(self, node):
        self._expected_down.add(node.name)
        node.kill_daemon()

    def kill_node(self, node):
        self._expected_down.add(node.name)
        node.kill_everything()

    def stop_daemon(self, node):
        self._expected_down.add(node.name)
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

    # -- the way back ----------------------------------------------------------------------------

    def heal(self):
        """Takes all faults away, and waits until the mirror is whole again."""
        self.assert_alive()
        for proxy in self.proxies:
            proxy.release()
            proxy.calm()
            proxy.open()
        for node in self.nodes:
            if node.is_running():
                node.go_on()
        for filler in (point / "filler" for point in self.disks.values()):
            filler.unlink(missing_ok=True)
        # The last active first: it goes on by itself, and the other one then finds it.
        for node in sorted(self.nodes, key=lambda node: node is not self._last_active):
            self.start(node)
        self._have_an_active()
        self._wait_in_sync()
        self.assert_alive()

    def _have_an_active(self):
        def serves():
            return self.cluster.active() or self.ask(self._last_active, "promote", "r0").code == 0
        self.wait(serves, "a node to serve again", HEAL_SECONDS)

    def _wait_in_sync(self):
        def healthy():
            active = self.cluster.active()
            assert active, "no node is active"
            status = active.status()
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

    # -- checking --------------------------------------------------------------------------------

    def check_image(self, node):
        """Every answered write is in this replica; what never got an answer may still arrive."""
        self.checks += 1

        def clean():
            complaints = checker.image_complaints(self.record, self.cluster.backing(node), False)
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
        images = [self.cluster.backing(node) for node in self.nodes]
        complaints = checker.differences(*images)
        complaints += checker.image_complaints(self.record, images[0], not complaints)
        if complaints:
            raise Violation("\n".join(complaints))
