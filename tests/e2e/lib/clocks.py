# SPDX-License-Identifier: BSD-3-Clause
"""Nodes whose clocks are wrong, by libfaketime; the monotonic clock stays right."""

import glob
import pathlib

from lib import environment, processes

_LIBRARIES = sorted(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
                    + glob.glob("/usr/lib*/faketime/libfaketimeMT.so.1"))
_SHARED = pathlib.Path("/dev/shm")


def why_not():
    """Why no clock can be wrong on this machine, or ""."""
    if not _LIBRARIES:
        return "libfaketime is not installed"
    if environment.sanitizer():
        return "libfaketime and the sanitizers' libraries do not get along"
    return ""


def _wrong(settings):
    return {"LD_PRELOAD": _LIBRARIES[0], "FAKETIME_DONT_FAKE_MONOTONIC": "1"} | settings


def wrong_by(seconds):
    """The environment of processes whose clocks are so far off; libfaketime's way to say it."""
    return _wrong({"FAKETIME": f"{seconds:+d}"})


def wrong_as_in(path):
    """The same, as a file says at any moment."""
    return _wrong({"FAKETIME_TIMESTAMP_FILE": str(path), "FAKETIME_NO_CACHE": "1"})


def sweep(since):
    """What libfaketime left in memory of processes that were killed; `since` is a time of day."""
    for pattern in ("faketime_shm_*", "sem.faketime_sem_*"):
        for path in _SHARED.glob(pattern):
            pid = path.name.rpartition("_")[2]
            if pid.isdigit() and not processes.is_alive(int(pid)) and _mtime(path) >= since:
                path.unlink(missing_ok=True)


def _mtime(path):
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
