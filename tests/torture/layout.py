# SPDX-License-Identifier: BSD-3-Clause
"""What a run takes place on, drawn from the seed alone: its settings, and the kind of its disks."""

import dataclasses
import random

_TIMEOUTS = (0, 2)
_FAULTY = (("alpha", "beta"), ("alpha",), ("beta",))


@dataclasses.dataclass(frozen=True)
class Layout:
    disk_timeout: int  # seconds on a plain build; 0: never
    faulty: tuple      # the nodes whose disks can hang and fail

    def without_faulty_disks(self):
        return dataclasses.replace(self, faulty=())

    def __str__(self):
        timeout = f"disk_timeout {self.disk_timeout}s" if self.disk_timeout else "no disk_timeout"
        return f"{timeout}, disks that can hang and fail: {', '.join(self.faulty) or 'none'}"


def draw_layout(seed):
    draw = random.Random(f"{seed}/layout")
    return Layout(draw.choice(_TIMEOUTS), draw.choice(_FAULTY))
