# SPDX-License-Identifier: BSD-3-Clause
"""Clocks that are wrong. A node keeps its clock, whatever else happens, until it gets another."""

from arena import Violation
from lib import clocks
from registry import NotNow, move

_MINUTE, _DAY = 60, 24 * 3600
_TOLERANCE = 20


@move("wrong-clock", weight=3)
def wrong_clock(arena, draw):
    """A node dies and returns with a clock that is minutes or days off, or with a right one."""
    if reason := clocks.why_not():
        raise NotNow(reason)
    node = draw.choice(arena.nodes)
    seconds = draw.choice([0, 0, _MINUTE, -_MINUTE, draw.randint(-_DAY, _DAY), 30 * _DAY,
                           -30 * _DAY])
    arena.kill_node(node)
    arena.set_clock(node, seconds)
    arena.start(node)
    if draw.random() < 0.5:
        arena.heal()
        require_difference(arena)


def require_difference(arena):
    """The nodes see it: else this move would show nothing."""
    active, standby = arena.roles()
    wanted = arena.clock(standby) - arena.clock(active)
    entries = active.ctl("check", "--json", check=False).json["nodes"]
    found = next(entry["clock_skew_seconds"] for entry in entries if entry["node"] == standby.name)
    if found is None or abs(found - wanted) > _TOLERANCE:
        raise Violation(f"the clock of {standby.name} should be {wanted} s ahead of that of "
                        f"{active.name}, and check finds {found}")
