# SPDX-License-Identifier: BSD-3-Clause
"""Disks that are full."""

import errno

from registry import NotNow, move


@move("fill-standby-disk")
def fill_standby_disk(arena, draw):
    """The file system under the standby's backing has no space left, for a while."""
    _, node = arena.roles()
    if node.name not in arena.disks:
        raise NotNow("small file systems can be made by root only")
    fill(arena.disks[node.name] / "filler")
    arena.run_for(draw.uniform(0.3, 1.5))


def fill(path):
    with open(path, "ab", buffering=0) as filler:
        try:
            while filler.write(bytes(64 * 1024)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
