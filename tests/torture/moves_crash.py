# SPDX-License-Identifier: BSD-3-Clause
"""Processes that die or stand still."""

from registry import NotNow, move


@move("kill-engine", weight=4)
def kill_engine(arena, draw):
    """kill -9 of the engine; mirrord starts it again."""
    arena.run_for(draw.uniform(0, 0.5))
    arena.kill_engine(arena.active())


@move("kill-active-daemon")
def kill_active_daemon(arena, draw):
    """kill -9 of mirrord on the active node; the engine goes on without it."""
    node = arena.active()
    arena.kill_daemon(node)
    arena.run_for(draw.uniform(0, 1.0))
    if draw.random() < 0.7:
        arena.start(node)


@move("kill-standby-daemon", weight=3)
def kill_standby_daemon(arena, draw):
    """kill -9 of mirrord on the standby."""
    _, node = arena.roles()
    arena.run_for(draw.uniform(0, 0.5))
    arena.kill_daemon(node)
    arena.run_for(draw.uniform(0, 1.0))
    if draw.random() < 0.7:
        arena.start(node)


@move("restart-standby")
def restart_standby(arena, draw):
    """A clean stop and start of mirrord on the standby, under load."""
    _, node = arena.roles()
    if not node.is_running():
        raise NotNow(f"mirrord of {node.name} does not run")
    node.go_on()
    arena.stop_daemon(node)
    arena.run_for(draw.uniform(0, 0.5))
    arena.start(node)


@move("freeze-standby", weight=3)
def freeze_standby(arena, draw):
    """SIGSTOP of mirrord on the standby, for less or for more than peer_timeout."""
    _, node = arena.roles()
    if not node.is_running():
        raise NotNow(f"mirrord of {node.name} does not run")
    node.pause()
    arena.run_for(draw.choice([0.2, 0.8, 1.5]) * arena.peer_timeout())
    if draw.random() < 0.8:
        node.go_on()


@move("kill-active-node")
def kill_active_node(arena, draw):
    """Engine and mirrord of the active node die at once; it comes back and goes on by itself."""
    node = arena.active()
    arena.run_for(draw.uniform(0, 0.5))
    arena.kill_node(node)
    arena.run_for(draw.uniform(0, 0.5))
    arena.start(node)


@move("kill-both-nodes")
def kill_both_nodes(arena, draw):
    """Everything dies, in either order; the nodes come back in either order."""
    order = list(arena.nodes)
    draw.shuffle(order)
    arena.run_for(draw.uniform(0, 0.5))
    arena.active()
    for node in order:
        arena.kill_node(node)
        arena.run_for(draw.choice([0, 0.05, 0.5]))
    draw.shuffle(order)
    for node in order:
        arena.start(node)
        arena.run_for(draw.choice([0, 0.5]))
