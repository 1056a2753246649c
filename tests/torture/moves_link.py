# SPDX-License-Identifier: BSD-3-Clause
"""The link between the nodes, and resyncs that are interrupted."""

from arena import MIB
from registry import move


@move("cut-link", weight=3)
def cut_link(arena, draw):
    """Connections are reset, new ones too."""
    for proxy in arena.proxies:
        proxy.cut()
    arena.run_for(draw.uniform(0, 1.5))
    if draw.random() < 0.7:
        for proxy in arena.proxies:
            proxy.open()


@move("flap-link")
def flap_link(arena, draw):
    """Cut and opened again several times, faster than anything can settle."""
    for _ in range(draw.randint(2, 6)):
        for proxy in arena.proxies:
            proxy.cut()
        arena.run_for(draw.uniform(0, 0.2))
        for proxy in arena.proxies:
            proxy.open()
        arena.run_for(draw.uniform(0, 0.4))


@move("black-hole", weight=3)
def black_hole(arena, draw):
    """Nothing passes, no connection ends; what was sent arrives late, or never."""
    for proxy in arena.proxies:
        proxy.silence()
    arena.run_for(draw.choice([0.2, 0.8, 1.5]) * arena.peer_timeout())
    for proxy in arena.proxies:
        if draw.random() < 0.5:
            proxy.cut()
    if draw.random() < 0.8:
        for proxy in arena.proxies:
            proxy.open()


@move("late-delivery", weight=3)
def late_delivery(arena, draw):
    """What was sent in an old session arrives when a new one has long begun."""
    arena.heal()
    for proxy in arena.proxies:
        proxy.hold()
    node = arena.active()
    arena.wait_if_it_comes(lambda: node.state() != "in-sync", 2 * arena.peer_timeout())
    arena.wait_if_it_comes(lambda: node.state() == "in-sync", 15)
    arena.run_for(draw.uniform(0, 0.5))
    for proxy in arena.proxies:
        proxy.release()


@move("slow-link")
def slow_link(arena, draw):
    """A link of ten kilobytes a second up to some megabytes."""
    rate = draw.choice([10_000, 64 * 1024, MIB, 8 * MIB])
    for proxy in arena.proxies:
        proxy.slow(rate)
    arena.run_for(draw.uniform(0.2, 1.5))


@move("flip-bits")
def flip_bits(arena, draw):
    """Now and then a bit of what passes is flipped, in one direction or in both."""
    ways = draw.choice([{"forward": 200_000}, {"backward": 20_000},
                        {"forward": 500_000, "backward": 50_000}])
    for proxy in arena.proxies:
        proxy.flip(draw.randrange(1 << 32), **ways)
    arena.run_for(draw.uniform(0.3, 2.0))
    for proxy in arena.proxies:
        proxy.calm()


@move("disconnect", weight=3)
def disconnect(arena, draw):
    """Replication is stopped in good order, and mostly allowed again."""
    node = arena.active()
    arena.ask(node, "disconnect", "r0")
    arena.run_for(draw.uniform(0, 1.0))
    if draw.random() < 0.8:
        arena.ask(node, "connect", "r0")


@move("interrupted-resync", weight=4)
def interrupted_resync(arena, draw):
    """A resync on a slow link that is cut off one to three times, in every way there is."""
    arena.heal()
    node = arena.active()
    arena.ask(node, "disconnect", "r0")
    arena.run_for(draw.uniform(0.5, 1.5))
    rate = draw.choice([6, 12]) * MIB
    for proxy in arena.proxies:
        proxy.slow(rate)
    arena.ask(node, "connect", "r0")
    for _ in range(draw.randint(1, 3)):
        interrupt = draw.choice(_INTERRUPTIONS)
        share = draw.uniform(0, 0.6)
        # What the load writes meanwhile may be as much as the link takes.
        arena.wait_if_it_comes(lambda: _is_far_enough(arena, share), 10)
        interrupt(arena)


@move("resync-full")
def resync_full(arena, draw):
    """Everything is compared, under load; half of the time it is interrupted."""
    arena.ask(arena.active(), "resync", "r0", "--full")
    arena.run_for(draw.uniform(0, 0.5))
    interrupt = draw.choice(_INTERRUPTIONS)
    if draw.random() < 0.5:
        interrupt(arena)


def _is_far_enough(arena, share):
    node = arena.cluster.active()
    if node is None:
        return False
    status = node.status()
    resync = status["peers"][0]["resync"]
    return (status["state"] == "in-sync"
            or resync and resync["done_bytes"] >= share * resync["total_bytes"])


def _by_disconnect(arena):
    node = arena.active()
    arena.ask(node, "disconnect", "r0")
    arena.ask(node, "connect", "r0")


def _by_cutting(arena):
    for proxy in arena.proxies:
        proxy.cut()
    for proxy in arena.proxies:
        proxy.open()


def _by_killing_the_engine(arena):
    arena.kill_engine(arena.active())


def _by_killing_the_standby(arena):
    _, node = arena.roles()
    arena.kill_daemon(node)
    arena.start(node)


def _by_killing_the_active_node(arena):
    node = arena.active()
    arena.kill_node(node)
    arena.start(node)


_INTERRUPTIONS = [_by_disconnect, _by_cutting, _by_killing_the_engine, _by_killing_the_standby,
                  _by_killing_the_active_node]
