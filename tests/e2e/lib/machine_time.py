# SPDX-License-Identifier: BSD-3-Clause
"""Seconds during which this machine ran: what deadlines and measured pauses are made of.

A virtual machine that is suspended, or whose host has no time for it, finds its clocks minutes
later when it goes on. Nothing ran meanwhile, so nothing was late. A program that hangs does not
stop this clock: the thread that drives it goes on.
"""

import subprocess
import threading
import time

TICK = 0.1
# A gap between two ticks counts for this much; a busy machine's gaps are shorter.
LONGEST_STEP = 2.0


class MachineTime:
    """`clock` and `sleep` are those of the machine, or a test's."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._elapsed = 0.0
        self._ticked_at = clock()
        self.stood_still = 0.0

    def tick(self):
        with self._lock:
            at = self._clock()
            gap = at - self._ticked_at
            self._elapsed += min(gap, LONGEST_STEP)
            self.stood_still += max(gap - LONGEST_STEP, 0.0)
            self._ticked_at = at

    def now(self):
        with self._lock:
            return self._elapsed + min(self._clock() - self._ticked_at, LONGEST_STEP)


def _run(clock):
    while True:
        time.sleep(TICK)
        clock.tick()


_CLOCK = MachineTime()
threading.Thread(target=_run, args=(_CLOCK,), daemon=True).start()


def now():
    return _CLOCK.now()


def stood_still():
    """Seconds that did not count since the start."""
    return _CLOCK.stood_still


def run(command, timeout, **options):
    """subprocess.run with the output as text and a deadline in machine time."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **options) as process:
        deadline = now() + timeout
        while True:
            try:
                out, err = process.communicate(timeout=1)
                return subprocess.CompletedProcess(command, process.returncode, out, err)
            except subprocess.TimeoutExpired:
                if now() >= deadline:
                    process.kill()
                    raise
            except BaseException:
                process.kill()
                raise
