# SPDX-License-Identifier: BSD-3-Clause
"""What is done in each round, drawn from the seed alone: the same seed gives the same moves.

Nothing that happens at run time has a say, so that a run can be repeated up to the round that
found something. When a move meets a state in which it makes no sense it says so and is skipped.
"""

import dataclasses
import random

CHECKS = ("quiet", "demote-and-promote", "demote-and-promote-the-other")


@dataclasses.dataclass
class PlannedMove:
    move: object
    draw: random.Random  # its own, so that no other move's choices change its


@dataclasses.dataclass
class Round:
    number: int
    moves: list
    check: str
    draw: random.Random

    def __str__(self):
        return ", ".join(planned.move.name for planned in self.moves)


class Plan:
    """`moves` are those to choose from, by their weights."""

    MOST_MOVES = 3

    def __init__(self, seed, moves):
        self.seed = seed
        self.moves = sorted(moves, key=lambda move: move.name)

    def round(self, number):
        draw = random.Random(f"{self.seed}/round/{number}")
        weights = [move.weight for move in self.moves]
        chosen = draw.choices(self.moves, weights, k=draw.randint(1, self.MOST_MOVES))
        planned = [PlannedMove(move, random.Random(f"{self.seed}/round/{number}/{index}"))
                   for index, move in enumerate(chosen)]
        return Round(number, planned, draw.choice(CHECKS), draw)
