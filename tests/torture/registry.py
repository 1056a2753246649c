# SPDX-License-Identifier: BSD-3-Clause
"""The moves that there are. A module of moves is imported in all_moves(), and nothing else is
needed to make a new one take part:

    @move("cut-link", weight=3)
    def cut_link(arena, draw):
        ...

`draw` is the move's own random.Random; `arena` has the nodes, the link, the load and the record.
A move may leave things broken: heal() mends what the arena knows of before the check.
"""

import dataclasses
import typing

_moves = {}


@dataclasses.dataclass(frozen=True)
class Move:
    name: str
    weight: int
    run: typing.Callable
    summary: str


class NotNow(Exception):
    """The move makes no sense in this state, or on this machine; the text says why."""


def move(name, weight=2):
    def register(function):
        _moves[name] = Move(name, weight, function, (function.__doc__ or "").split("\n")[0])
        return function
    return register


def all_moves():
    # pylint: disable=unused-import,import-outside-toplevel
    import moves_clock
    import moves_crash
    import moves_disk
    import moves_double
    import moves_hang
    import moves_image
    import moves_link
    import moves_loss
    import moves_metadata
    import moves_roles
    import moves_settings
    import moves_slow
    import moves_verify
    return dict(_moves)
