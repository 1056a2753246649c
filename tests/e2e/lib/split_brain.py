# SPDX-License-Identifier: BSD-3-Clause
"""Split brains in which every block that differs is known."""

import hashlib

import nbd

from lib import blocks

BLOCK = blocks.SIZE
LONGEST_RUN = 16


def content(tag, number):
    """A block that says whose it is; never zeroes."""
    seed = hashlib.blake2b(f"{tag}/{number}".encode(), digest_size=64).digest()
    return seed * (BLOCK // len(seed))


def connect(node, volume="r0"):
    handle = nbd.NBD()
    handle.set_export_name("")
    handle.connect_unix(str(node.socket(volume)))
    return handle


def _runs(numbers):
    """Neighbours as one request."""
    run = []
    for number in numbers:
        if run and (number != run[-1] + 1 or len(run) == LONGEST_RUN):
            yield run
            run = []
        run.append(number)
    if run:
        yield run


def write(node, tag, numbers, volume="r0"):
    handle = connect(node, volume)
    for run in _runs(numbers):
        handle.pwrite(b"".join(content(tag, number) for number in run), run[0] * BLOCK)
    handle.flush()
    handle.shutdown()


def make(cluster, on_alpha, on_beta, zeroed_on_beta=(), network=None):
    """Both nodes active, each with blocks of its own, and within reach of each other again.

    The cluster is proxied (or `network` its Namespaces), alpha active and beta in sync; blocks 0 to
    63 hold the same on both. Returns the images of both.
    """
    write(cluster.alpha, "common", range(64))
    if network:
        network.drop_packets()
    for proxy in cluster.proxies.values():
        proxy.cut()
    cluster.beta.ctl("promote", "r0", "--force")
    write(cluster.beta, "beta", on_beta)
    handle = connect(cluster.beta)
    for number in zeroed_on_beta:
        handle.zero(BLOCK, number * BLOCK)
    handle.flush()
    handle.shutdown()
    write(cluster.alpha, "alpha", on_alpha)
    if network:
        network.heal()
    for proxy in cluster.proxies.values():
        proxy.open()
    for node in cluster.nodes:
        cluster.wait_state(node, "diverged")
        cluster.wait(lambda node=node: "split_brain" in node.peer(), "the evidence")
    return {node.name: cluster.backing(node).read_bytes() for node in cluster.nodes}


def differing(one, other):
    """The numbers of the blocks that differ."""
    return [at // BLOCK for at in range(0, len(one), BLOCK)
            if one[at:at + BLOCK] != other[at:at + BLOCK]]
