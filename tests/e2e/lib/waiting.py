# SPDX-License-Identifier: BSD-3-Clause
"""Waiting for a condition, never for a fixed time, and saying what was seen when it never came."""

import socket
import time

from lib import environment, machine_time


def wait_for(condition, what, timeout=30.0, interval=0.05, report=None):
    """Returns the first true value of `condition()`.

    A condition may also raise AssertionError to say why it is not true yet. `report()` gives
    text (log tails) for the failure.
    """
    limit = timeout * environment.slowness()
    deadline = machine_time.now() + limit
    why = ""
    while True:
        try:
            value = condition()
            why = f"last seen: {value!r}"
        except AssertionError as error:
            value, why = None, f"last seen: {error}"
        if value:
            return value
        if machine_time.now() >= deadline:
            extra = "\n" + report() if report else ""
            raise AssertionError(f"waited {limit:.0f} s for {what}; {why}{extra}")
        time.sleep(interval)


def accepts(path):
    """Whether somebody listens on a Unix socket; the file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
