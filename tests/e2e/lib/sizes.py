# SPDX-License-Identifier: BSD-3-Clause
"""Volumes that are large and empty: how they are marked as different from end to end, and what a
process takes for that."""

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


def wait_map_written(cluster, node, size):
    """Until the map of changed blocks is on disk, a bit for each of them."""
    def written():
        return max(file.stat().st_blocks for file in (node.state_dir / "r0").iterdir()
                   if file.is_file()) * 512 >= size // 4096 // 8
    cluster.wait(written, "the map to be written", timeout=300)


def memory(pid, what="RssAnon"):
    """A figure of /proc/PID/status, in MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(what + ":")) / 1024
