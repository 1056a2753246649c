# SPDX-License-Identifier: BSD-3-Clause
"""Settings that change while the volume is in use."""

from registry import move


@move("change-settings", weight=3)
def change_settings(arena, draw):
    """The file changes, the nodes take it in one after the other, in either order, under load."""
    arena.cluster.volumes["r0"] |= {
        # Never longer than what the run promises.
        "peer_timeout": f"{int(1000 * draw.choice([0.5, 0.75, 1.0]) * arena.peer_timeout())}ms",
        "verify_rate": draw.choice(["0", "16MiB"]),
        "hook_timeout": draw.choice(["20s", "30s"]),
    }
    arena.cluster.write_config()
    nodes = list(arena.nodes)
    draw.shuffle(nodes)
    for node in nodes:
        if node.is_running():
            node.go_on()
            arena.stop_daemon(node)
        arena.run_for(draw.choice([0, 0.3]))
        arena.start(node)
    if draw.random() < 0.3:
        arena.ask(arena.active(), "restart-engine", "r0", "--disconnect-clients")
