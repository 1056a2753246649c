# SPDX-License-Identifier: BSD-3-Clause
"""Two things at once: what fails here while nothing is known of the peer, and what the peer did
without being able to say so."""

from moves_loss import open_link, silence
from registry import NotNow, move


@move("disk-fails-in-silence", weight=3)
def disk_fails_in_silence(arena, draw):
    """The active's disk fails while the peer is silent, for less or for more than peer_timeout."""
    arena.heal()
    active, standby = arena.roles()
    disk = arena.disk(active, faulty=True)
    silence_it, speak = draw.choice([(silence, open_link), (silence, _cut), (_freeze, _thaw)])
    order = [lambda: silence_it(arena, standby), lambda: disk.fuse.fail("write")]
    draw.shuffle(order)
    for step in order:
        step()
        arena.run_for(draw.choice([0, 0.05, 0.5 * arena.peer_timeout()]))
    arena.run_for(draw.choice([0.3, 0.8, 1.5]) * arena.peer_timeout())
    if draw.random() < 0.3:
        arena.kill_engine(active)
    speak(arena, standby)
    arena.run_for(draw.uniform(0, 1.0))


@move("unclear-answers", weight=4)
def unclear_answers(arena, draw):
    """What the peer is asked for arrives there and is done, and the answers are lost."""
    arena.heal()
    active, standby = arena.roles()
    asked = [arena.cluster.proxies[standby.name]] if draw.random() < 0.6 else list(arena.proxies)
    wanted = draw.choice(_ASKED_FOR)
    if wanted is _disk_fails:
        arena.disk(active, faulty=True)  # before anything is broken
    for proxy in asked:
        proxy.mute()
    wanted(arena, draw, active, standby)
    arena.run_for(draw.uniform(0.1, 1.5) * arena.peer_timeout())
    for proxy in asked:
        proxy.cut()
    if draw.random() < 0.7:
        arena.run_for(draw.uniform(0, 0.3))
        for proxy in asked:
            proxy.open()
        arena.run_for(draw.uniform(0, 1.0))


def _writes(_arena, _draw, _active, _standby):
    pass


def _disk_fails(arena, _draw, active, _standby):
    arena.disk(active, faulty=True).fuse.fail("write")


def _a_switch(arena, draw, active, standby):
    arena.ask(draw.choice([active, standby]), "switch", "r0", "--to", standby.name,
              "--disconnect-clients")


def _a_new_session(arena, _draw, active, _standby):
    arena.ask(active, "disconnect", "r0")
    arena.ask(active, "connect", "r0")


def _a_new_engine(arena, _draw, active, _standby):
    arena.kill_engine(active)


_ASKED_FOR = [_writes, _disk_fails, _disk_fails, _a_switch, _a_new_session, _a_new_engine]


def _cut(arena, _standby):
    """What was sent meanwhile never arrives."""
    for proxy in arena.proxies:
        proxy.cut()
    open_link(arena)


def _freeze(_arena, standby):
    if not standby.is_running():
        raise NotNow(f"mirrord of {standby.name} does not run")
    standby.pause()


def _thaw(_arena, standby):
    standby.go_on()
