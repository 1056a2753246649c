# SPDX-License-Identifier: BSD-3-Clause
"""A promotion that costs writes, because a person accepted the loss that it names."""

import shutil

from arena import Violation
from registry import move


@move("forced-loss", weight=2)
def forced_loss(arena, draw):
    """The active goes on alone and dies; the other one is promoted without what it lacks."""
    arena.heal()
    lost, heir = arena.roles()
    arena.record.expect_loss()
    reconnect_first = draw.random() < 0.5
    draw.choice(_WAYS)(arena, lost)
    arena.cluster.wait_state(lost, "broken")
    broken = arena.record.tick()
    arena.load.wait_progress(20)
    arena.run_for(draw.uniform(0, 0.7))
    arena.load.sockets = [heir.socket()]
    arena.kill_node(lost)
    arena.load.pause()
    if reconnect_first:
        open_link(arena)
    arena.promote_forced(heir)
    open_link(arena)
    arena.given_up += arena.record.accept_loss(broken)
    arena.check_image(heir)
    arena.load.go_on()
    arena.load.wait_progress(20)
    arena.start(lost)
    settle_split_brain(arena, draw, keep=heir, lose=lost)
    arena.load.sockets = [node.socket() for node in arena.nodes]


def settle_split_brain(arena, draw, keep, lose):
    """Both nodes see it; then it is decided, or the loser's replica is made anew."""
    for node in arena.nodes:
        try:
            arena.cluster.wait_state(node, "diverged")
        except AssertionError as error:
            raise Violation(f"the split brain is not seen on {node.name}: {error}") from error
    if draw.random() < 0.7:
        resolve(arena, draw.choice(arena.nodes), keep, lose)
    else:
        make_anew(arena, keep, lose)


def resolve(arena, asked, keep, lose):
    asked.ctl("resolve", "r0", "--keep", keep.name, "--yes", "--disconnect-clients")
    if not lose.ctl("undo", "r0", "--list", "--json").json["undo"]:
        raise Violation(f"nothing was saved of what {lose.name} gave up")
    arena.cluster.wait_in_sync(keep)
    while saved := lose.ctl("undo", "r0", "--list", "--json").json["undo"]:
        lose.ctl("undo", "r0", "--drop", "--id", str(saved[0]["id"]), "--yes")


def make_anew(arena, keep, lose):
    if lose.engine_pid():
        arena.ask(lose, "demote", "r0")
    arena.stop_daemon(lose)
    shutil.rmtree(lose.state_dir / "r0")
    disk = arena.disks.get(lose.name)
    if disk and disk.fuse:
        disk.fuse.blank()
    else:
        arena.cluster.backing(lose).unlink()
    arena.start(lose)
    # A disk behind FUSE never looks empty.
    lose.ctl("create", "r0", *(["--replace", "--yes"] if disk and disk.fuse else []))
    arena.cluster.wait_in_sync(keep)


def open_link(arena, _node=None):
    for proxy in arena.proxies:
        proxy.open()


def _disconnect(arena, active):
    active.ctl("disconnect", "r0")


def _cut(arena, _active):
    for proxy in arena.proxies:
        proxy.cut()


def silence(arena, _node):
    for proxy in arena.proxies:
        proxy.silence()


_WAYS = [_disconnect, _cut, silence]
