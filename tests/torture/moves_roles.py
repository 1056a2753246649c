# SPDX-License-Identifier: BSD-3-Clause
"""Who is active: planned switches, and a survivor that takes over with every answered write."""

from registry import move


@move("switch", weight=4)
def switch(arena, draw):
    """A planned switch under load; in a mirror that is not whole it may be refused."""
    if draw.random() < 0.7:
        arena.heal()
    node, other = arena.roles()
    asked = draw.choice([node, other])
    arena.run_for(draw.uniform(0, 0.3))
    arena.ask(asked, "switch", "r0", "--to", other.name, "--disconnect-clients")


@move("fail-over", weight=4)
def fail_over(arena, draw):
    """The active node dies in a whole mirror, the other one takes over, the dead one returns."""
    arena.heal()
    lost, heir = arena.roles()
    arena.run_for(draw.uniform(0, 0.5))
    arena.kill_node(lost)
    arena.load.pause()
    # Before anything else writes: what was answered is there, flushed or not.
    arena.check_image(heir)
    arena.promote_forced(heir, draw.choice(["--force", "--fenced"]))
    arena.load.go_on()
    arena.run_for(draw.uniform(0, 1.0))
    if draw.random() < 0.7:
        arena.start(lost)
        arena.run_for(draw.uniform(0, 1.0))
