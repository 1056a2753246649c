# SPDX-License-Identifier: BSD-3-Clause
"""Comparing the replicas while they are in use, and bytes that change behind the mirror's back."""

from arena import MIB, VOLUME_MIB, Violation
from registry import move


@move("verify")
def verify(arena, _draw):
    """Both replicas are compared under load: they are equal, and it is no false alarm."""
    arena.heal()
    compare(arena, "verify found differences between replicas that nobody touched")


@move("rotting-standby")
def rotting_standby(arena, draw):
    """Bytes of the standby's disk change by themselves; they are found and repaired."""
    arena.heal()
    _, standby = arena.roles()
    at = draw.randrange(VOLUME_MIB * MIB - 8)
    with open(arena.image(standby), "r+b", buffering=0) as disk:
        disk.seek(at)
        old = disk.read(8)
        disk.seek(at)
        disk.write(bytes(byte ^ 0x5A for byte in old))
    disk = arena.disks.get(standby.name)
    if disk and disk.fuse:
        disk.fuse.forget_cache()
    compare(arena, "verify --repair did not end with equal replicas", "--repair")


def compare(arena, otherwise, *options):
    active = arena.active()
    outcome = arena.ask(active, "verify", "r0", "--wait", "--restart", "--rate", "0", *options)
    if outcome.code == 1 and "differ" in outcome.out + outcome.err:
        raise Violation(f"{otherwise}: {outcome}")
