# SPDX-License-Identifier: BSD-3-Clause
"""The files below a target: one stated state of the page cache, and whether both are equal."""

import os
import subprocess

CHUNK = 1 << 20


def make(path, size):
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.truncate(size)


def reset(files, cached):
    """Written back and evicted; with `cached`, then read once from beginning to end.

    A page that an earlier load left in the cache may be part of a large folio, which makes a small
    write several times dearer: the next target must not inherit that.
    """
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if cached:
                while os.read(descriptor, CHUNK):
                    pass
        finally:
            os.close(descriptor)


def difference(files):
    """'' when all files have the same bytes, else what cmp says."""
    first, *others = files
    for other in others:
        done = subprocess.run(["cmp", first, other], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return (done.stdout + done.stderr).strip()
    return ""
