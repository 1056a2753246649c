# SPDX-License-Identifier: BSD-3-Clause
"""Volumes that are large and empty: how they are marked as different from end to end, and what a
process takes for that."""

import os

from lib import split_brain

GIB = 1 << 30
# The largest file that ext4 takes is a block smaller than 16 TiB.
LARGEST = (GIB << 14) - (1 << 20)
# Of one request; the protocol's limit is just below 4 GiB.
LARGEST_ZERO = 2 * GIB


def zero_all(node):
    """Every block counts as changed then, where the peer is away."""
    handle = split_brain.connect(node)
    size = handle.get_size()
    for at in range(0, size, LARGEST_ZERO):
        handle.zero(min(LARGEST_ZERO, size - at), at)
    handle.flush()
    handle.shutdown()


def data_bytes(path):
    """What was written of a file. Its blocks don't tell: metadata have theirs from the start."""
    total = 0
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at < end:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            total += at - begin
    return total


def wait_map_written(cluster, node, size):
    """Until the map of changed blocks is on disk, a bit for each of them."""
    cluster.wait(lambda: data_bytes(node.meta()) >= size // 4096 // 8, "the map to be written",
                 timeout=300)


def memory(pid, what="RssAnon"):
    """A figure of /proc/PID/status, in MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(what + ":")) / 1024
