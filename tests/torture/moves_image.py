# SPDX-License-Identifier: BSD-3-Clause
"""Nodes that are put back to an older image, and backings that are others than they were."""

import os
import shutil

from arena import VOLUME_MIB, MIB, Violation
from registry import NotNow, move

_BOTH, _METADATA, _DATA = ("metadata", "data"), ("metadata",), ("data",)


class Image:
    """What a snapshot of a node's machine holds; of a node on which nothing runs, as putting back
    is, too."""

    def __init__(self, arena, node):
        self._arena, self._node = arena, node
        self._folder = arena.cluster.directory / f"image-{node.name}"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        shutil.copytree(node.state_dir / "r0", self._folder / "metadata")
        shutil.copy(arena.image(node), self._folder / "data")

    def put_back(self, what):
        if "metadata" in what:
            shutil.rmtree(self._node.state_dir / "r0")
            shutil.copytree(self._folder / "metadata", self._node.state_dir / "r0")
        if "data" in what:
            overwrite(self._arena, self._node, self._folder / "data")


def overwrite(arena, node, content):
    """In place: it stays the file that it was."""
    with open(content, "rb") as source, open(arena.image(node), "r+b") as target:
        shutil.copyfileobj(source, target, MIB)
    disk = arena.disks.get(node.name)
    if disk and disk.fuse:
        disk.fuse.forget_cache()


@move("older-image", weight=3)
def older_image(arena, draw):
    """A node dies, and its machine is put back to before the last session, whole or in part."""
    arena.heal()
    node = draw.choice(arena.nodes)
    arena.kill_node(node)
    image = Image(arena, node)
    arena.start(node)
    arena.heal()
    if draw.random() < 0.5:
        active, standby = arena.roles()
        arena.ask(active, "switch", "r0", "--to", standby.name, "--disconnect-clients")
        arena.heal()
    arena.load.wait_written(50)
    active, standby = arena.roles()
    if node is active:
        lose_the_active(arena, active, lambda: image.put_back(draw.choice([_BOTH, _METADATA])))
        return
    # A file that was open when its node died has no mark that tells an older content; one that
    # was closed has.
    what = draw.choice([_BOTH, _METADATA, _DATA])
    if what is _DATA and arena.disk(node).fuse is None:
        arena.stop_daemon(node)
    else:
        what = _BOTH if what is _DATA else what
        arena.kill_node(node)
    image.put_back(what)
    arena.start(node)


@move("replaced-backing", weight=3)
def replaced_backing(arena, draw):
    """A node comes back with another file where its backing was: empty, older, or a copy."""
    arena.heal()
    node = draw.choice(arena.nodes)
    path = plain_backing(arena, node)
    older = arena.cluster.directory / f"older-{node.name}.img"
    arena.kill_node(node)
    shutil.copy(path, older)
    arena.start(node)
    arena.heal()
    arena.load.wait_written(50)

    def replace():
        if draw.random() < 0.3:
            shutil.copy(path, older)  # as it is now
        path.unlink()
        if draw.random() < 0.3:
            path.touch()
            os.truncate(path, VOLUME_MIB * MIB)
        else:
            shutil.copy(older, path)
        path.chmod(0o600)
    active, standby = arena.roles()
    if node is active:
        lose_the_active(arena, active, replace)
    else:
        arena.stop_daemon(standby)
        seen = len(standby.events("backing-changed"))
        replace()
        arena.start(standby)
        arena.cluster.wait_event(standby, "backing-changed", seen + 1)
    older.unlink()


@move("swapped-backings", weight=2)
def swapped_backings(arena, draw):
    """A standby's backing and an older copy of it change places, and change back later."""
    arena.heal()
    _, standby = arena.roles()
    path = plain_backing(arena, standby)
    other = arena.cluster.directory / f"other-{standby.name}.img"
    kept = arena.cluster.directory / f"kept-{standby.name}.img"
    arena.stop_daemon(standby)
    shutil.copy(path, other)
    arena.start(standby)
    arena.heal()
    arena.load.wait_written(50)
    for _ in range(2):
        _, standby_now = arena.roles()
        if standby_now is not standby:
            break
        arena.stop_daemon(standby)
        shutil.move(path, kept)
        shutil.move(other, path)
        shutil.move(kept, other)
        arena.start(standby)
        if draw.random() < 0.7:
            arena.heal()
            arena.load.wait_written(20)
    other.unlink()


@move("moved-backing", weight=1)
def moved_backing(arena, draw):
    """A backing in use is renamed: the node says so, and works with it as before."""
    arena.heal()
    node = draw.choice(arena.nodes)
    path = plain_backing(arena, node)
    away = path.with_suffix(".away")
    for event, source, target in (("backing-moved", path, away), ("backing-returned", away, path)):
        seen = len(node.events(event))
        source.rename(target)
        arena.cluster.wait_event(node, event, seen + 1)
        arena.run_for(draw.uniform(0, 0.5))


def plain_backing(arena, node):
    disk = arena.disks.get(node.name)
    if disk and disk.fuse:
        raise NotNow(f"in this run the backing of {node.name} is no plain file")
    return disk.path if disk else arena.cluster.backing(node)


def lose_the_active(arena, lost, change):
    """The active node dies and is changed: it comes back as a standby, the other one takes over
    with every answered write."""
    heir = arena.cluster.other(lost)
    arena.kill_node(lost)
    arena.load.pause()
    change()
    arena.check_image(heir)
    arena.start(lost)
    arena.wait(lambda: lost.status()["role"] == "standby", f"{lost.name} to be a standby")
    outcome = lost.ctl("promote", "r0", check=False)
    if outcome.code == 0:
        raise Violation(f"{lost.name} was promoted with an older copy:\n{outcome}")
    arena.take_over(heir)
    arena.load.go_on()
    arena.load.wait_written(20)
