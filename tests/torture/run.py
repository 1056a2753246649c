# SPDX-License-Identifier: BSD-3-Clause
"""One run: rounds of moves, healing and checking, until the time is over or a promise is broken."""

import collections
import traceback

from arena import Arena, Violation
from layout import draw_layout
from lib import environment, machine_time
from plan import Plan
from registry import NotNow


class Run:
    """`seconds` or `rounds` ends it, whichever comes first."""

    def __init__(self, seed, moves, seconds=None, rounds=None, disks=False, say=print,
                 options=""):
        self.seed = seed
        self.plan = Plan(seed, moves)
        self.arena = None
        self.rounds = 0
        self.seconds = 0.0
        self.faults = collections.Counter()
        self.skipped = collections.Counter()
        self.longest_pause = 0.0
        self.longest_pause_during = ""
        self.stood_still = 0.0
        self.violations = []
        self._limit_seconds = seconds
        self._limit_rounds = rounds
        self._disks = disks
        self._say = say
        self._options = options

    def replay(self):
        door = f"MIRRORDISK_TEST_DOOR={environment.DOOR}"
        return (f"{door} tests/torture/torture --seed {self.seed} --rounds {self.rounds}"
                f"{self._options}")

    def go(self, summarise):
        """`summarise` is called before the nodes are taken away."""
        began = machine_time.now()
        with Arena(self.seed, draw_layout(self.seed), self._disks, self._say) as self.arena:
            self._say(f"arena: {self.arena.layout}")
            try:
                while not self._is_over(machine_time.now() - began):
                    self._play(self.plan.round(self.rounds))
            except Violation as violation:
                self.violations.append(str(violation))
            except Exception:  # pylint: disable=broad-except
                # A command that hangs or a mirror that never heals is found here too.
                self.violations.append(traceback.format_exc())
            self.seconds = machine_time.now() - began
            self.stood_still = machine_time.stood_still()
            self.arena.cluster.keep = bool(self.violations)
            return summarise(self)

    def _is_over(self, elapsed):
        return (self._limit_seconds is not None and elapsed >= self._limit_seconds
                or self._limit_rounds is not None and self.rounds >= self._limit_rounds)

    def _play(self, planned):
        self._say(f"round {planned.number}: {planned}; check: {planned.check}")
        self.rounds += 1
        began, answered = machine_time.now(), self.arena.load.completed
        for chosen in planned.moves:
            self._make(chosen)
        self.arena.heal()
        self.arena.load.wait_progress(10)
        self._note_pause(str(planned))
        self.arena.check(planned.check)
        self._say(f"   {self.arena.load.completed - answered} answers, "
                  f"{machine_time.now() - began:.1f} s")

    def _make(self, planned):
        try:
            planned.move.run(self.arena, planned.draw)
            self.faults[planned.move.name] += 1
        except NotNow as reason:
            self.skipped[planned.move.name] += 1
            self._say(f"   {planned.move.name} is skipped: {reason}")

    def _note_pause(self, during):
        pause = self.arena.load.take_longest_pause()
        if pause > self.longest_pause:
            self.longest_pause, self.longest_pause_during = pause, during
