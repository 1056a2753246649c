# SPDX-License-Identifier: BSD-3-Clause
"""What is true of a pair while a test breaks it, and a looker that holds each word of status against
it ten times a second, on both nodes.

A word may be as old as the last sign of life counts: peer_timeout and a second. So a claim is wrong
when it was true at no moment between then and the end of the answer.
"""

import threading
import time

import nbd

from lib import control, environment, machine_time
from lib.waiting import wait_for

KNOWN_FOR = 1.0  # seconds beyond peer_timeout
EITHER = frozenset({"active", "standby"})
GONE = frozenset({"gone"})


class Truth:
    """Facts, each with its history: `hears` (True while the nodes are in touch), `alone` (True once
    a write was acknowledged that the other node lacks), `alpha` and `beta` (the role, EITHER
    while it changes, GONE while nothing of it runs).

    Say what ends when it has ended, and what begins before it begins: then nobody is blamed for
    what nobody could know yet.
    """

    def __init__(self, **facts):
        self._lock = threading.Lock()
        self._history = {}
        self.note(**facts)

    def note(self, **facts):
        now = machine_time.now()
        with self._lock:
            for name, value in facts.items():
                values = value if isinstance(value, frozenset) else frozenset({value})
                self._history.setdefault(name, []).append((now, values))

    def admits(self, name, value, since, until):
        """Whether it was so at any moment in between."""
        with self._lock:
            history = list(self._history[name])
        ends = [began for began, _ in history[1:]] + [float("inf")]
        return any(value in values and began <= until and end >= since
                   for (began, values), end in zip(history, ends))


class Looker:
    """A context manager: looks while the block runs; violations are an AssertionError at its end."""

    INTERVAL = 0.1
    ENOUGH = 20

    def __init__(self, cluster, truth, limit=None):
        self.cluster, self.truth = cluster, truth
        self.limit = limit or (2 + KNOWN_FOR) * environment.slowness()
        self.looks = 0
        self.states = set()
        self.violations = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=(node,), daemon=True)
                         for node in cluster.nodes]
        self._threads += [threading.Thread(target=self._read, args=(node,), daemon=True)
                          for node in cluster.nodes]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:  # a busy machine looks less often
            wait_for(lambda: self.looks > self.ENOUGH, "enough looks")
        self._end.set()
        for thread in self._threads:
            thread.join(30)
        if kind is None:
            assert not self.violations, "\n".join(self.violations[:20])
            assert "in-sync" in self.states, self.states

    def _look(self, node):
        while not self._end.wait(self.INTERVAL):
            asked = machine_time.now()
            try:
                answer = control.ask(node.run_dir / "mirrord.sock",
                                     {"request": "status", "volume": "r0"})
            except (nbd.Error, OSError, ValueError):
                continue  # its mirrord is away: it says nothing
            if not answer.get("volumes"):
                continue
            self.looks += 1
            self._judge(node, answer["volumes"][0], asked, machine_time.now())

    def _judge(self, node, volume, asked, answered):
        since = asked - self.limit
        other = self.cluster.other(node)
        peer = volume["peers"][0]
        self.states.add(volume["state"])

        def hold(claim, *facts):
            for name, value in facts:
                if not self.truth.admits(name, value, since, answered):
                    self.violations.append(
                        f"{asked:.2f} {node.name} says {claim} though {name} was not {value}: "
                        f"{volume['state']}: {volume['why']}; peer {peer['role']}, "
                        f"{peer['link']}, rpo {volume['rpo']}")
        if volume["state"] == "in-sync":
            hold("in-sync", ("hears", True), ("alone", False))
        if volume["rpo"]["bytes"] == 0:
            hold("rpo 0", ("hears", True), ("alone", False))
        if peer["behind_bytes"] == 0:
            hold("0 bytes behind", ("alone", False))
        if peer["link"] == "connected":
            hold("connected", ("hears", True))
        if peer["role"] in EITHER:
            hold(f"the peer is {peer['role']}", (other.name, peer["role"]))
        if volume["role"] == "active":
            hold("it is active", (node.name, "active"))

    def _read(self, node):
        """The words for people, more seldom: they cost a process each."""
        while not self._end.wait(0.5):
            for words in (("status", "r0"), ("check",)):
                asked = machine_time.now()
                outcome = node.ctl(*words, check=False, timeout=30)
                self._judge_words(node, outcome, asked - self.limit, machine_time.now())
                if self._end.is_set():
                    return

    def _judge_words(self, node, outcome, since, until):
        wanted = []
        if "active nowhere" in outcome.out:
            # That both were standby at once is not needed, but that none was known to be active.
            wanted += [(each.name, "standby") for each in self.cluster.nodes]
        if "nothing would be lost" in outcome.out or "no problems" in outcome.out:
            wanted += [("hears", True), ("alone", False)]
        for name, value in wanted:
            if not self.truth.admits(name, value, since, until):
                self.violations.append(f"{outcome} though {name} was not {value}")


def stay(seconds):
    """For so long whoever looks has time to be wrong: beyond what a sign of life counts for."""
    time.sleep(seconds * environment.slowness())
