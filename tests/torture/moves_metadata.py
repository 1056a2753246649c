# SPDX-License-Identifier: BSD-3-Clause
"""Metadata that a node finds garbled when it starts."""

from metafile import MetaFile
from registry import move


@move("torn-metadata")
def torn_metadata(arena, draw):
    """A node dies in an update of its superblock, its maps are garbled: all of it is compared."""
    active, standby = arena.roles()
    node = draw.choice([active, standby])
    arena.run_for(draw.uniform(0, 0.5))
    arena.kill_node(node)
    meta = MetaFile(node.meta())
    harm = draw.choice([(meta.tear,), (meta.garble_maps,), (meta.tear, meta.garble_maps)])
    for garble in harm:
        garble(draw)
    arena.start(node)
