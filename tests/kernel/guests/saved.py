# SPDX-License-Identifier: BSD-3-Clause
"""Guests as they are when they have just booted: kept beside the images, and gone on with.

A guest goes on where it was saved: disks, memory, processes, and its idea of the time, which
machine.py corrects. mirrordisk is not in it, as it is installed afterwards, so that what is under
test is no part of the key, and the two guests of a pair need not be of the same moment.
"""

import contextlib
import fcntl
import functools
import hashlib
import pathlib
import shutil
import subprocess
import tempfile
import time

from guests import image, qmp
from lib.waiting import wait_for

LAYOUT = 1  # another number when a saved guest is another for the same key
DISKS = ("root.qcow2", "data.img")
MEMORY = "memory"
MOST = 6  # saved guests, of 250 MiB or so each; a pair needs two
IN_USE_SECONDS = 6 * 3600  # whoever went on from it may still read its disk
SECONDS = 120


def place(command_line, disk):
    """Where a guest of this command line, without what differs each time, is saved."""
    parts = [LAYOUT, _qemu(), _processor(), disk, *map(str, command_line)]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    return image.cache_directory() / f"booted-{key}"


def disks_of(saved, directory):
    """Disks in `directory` that are those of the saved guest; False when there is none."""
    with _locked(saved):
        if not saved.exists():
            return False
        saved.touch()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
                    saved / "root.qcow2", directory / "root.qcow2"], check=True)
    _copy(saved / "data.img", directory / "data.img")
    return True


def go_on(saved, monitor):
    """In a QEMU that was started with -incoming defer."""
    qmp.command(monitor, "migrate-incoming", uri=f"exec:cat '{saved / MEMORY}'")
    wait_for(lambda: qmp.command(monitor, "query-status")["status"] == "paused",
             "the saved guest to be there again", timeout=SECONDS)
    qmp.command(monitor, "cont")


def save(saved, directory, monitor):
    """The guest, which stands still meanwhile."""
    with _locked(saved):
        if saved.exists():
            return
        with tempfile.TemporaryDirectory(dir=saved.parent, prefix="new-") as made:
            made = pathlib.Path(made) / "guest"
            made.mkdir()
            qmp.command(monitor, "stop")
            try:
                _save_memory(made / MEMORY, monitor)
                # QEMU has let go of the disks: what it had not written yet is in the files.
                for disk in DISKS:
                    _copy(directory / disk, made / disk)
            finally:
                qmp.command(monitor, "cont")
            made.rename(saved)
        _sweep(saved)


def forget(saved):
    with _locked(saved):
        shutil.rmtree(saved, ignore_errors=True)


def _save_memory(file, monitor):
    qmp.command(monitor, "migrate-set-parameters", **{"max-bandwidth": 1 << 40})
    qmp.command(monitor, "migrate", uri=f"exec:cat > '{file}'")

    def is_done():
        state = qmp.command(monitor, "query-migrate")
        if state["status"] in ("failed", "cancelled"):
            raise RuntimeError(f"QEMU cannot save the guest: {state}")
        return state["status"] == "completed"
    wait_for(is_done, "the guest to be saved", timeout=SECONDS)


def _copy(source, target):
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)


def _sweep(kept):
    """The ones that were not used for longest, of those that nobody can be using."""
    others = sorted((old for old in kept.parent.glob("booted-*") if old != kept),
                    key=lambda old: old.stat().st_mtime, reverse=True)
    for old in others[MOST - 1:]:
        if time.time() - old.stat().st_mtime > IN_USE_SECONDS:
            shutil.rmtree(old)


@contextlib.contextmanager
def _locked(saved):
    with open(saved.parent / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def _qemu():
    return subprocess.run(["qemu-system-x86_64", "--version"], check=True, capture_output=True,
                          text=True).stdout


@functools.cache
def _processor():
    """The guest has measured how fast its processor counts, which it does as the host's."""
    lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.startswith("model name")), "")
