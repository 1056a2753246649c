# SPDX-License-Identifier: BSD-3-Clause
"""What the figures were measured on: without it none of them means anything."""

import os
import pathlib
import platform
import re
import subprocess
import time

import processors
from lib import environment

VERSIONS = {
    "nbdkit": ["nbdkit", "--version"],
    "libnbd": ["nbdcopy", "--version"],
    "qemu-storage-daemon": ["qemu-storage-daemon", "--version"],
    "fio": ["fio", "--version"],
}


def describe(directory):
    return {
        "processor": _processor(),
        "processors": len(processors.ALL),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "virtualisation": _said(["systemd-detect-virt", "--vm"]) or "unknown",
        "kernel": platform.release(),
        "distribution": _distribution(),
        "filesystem": _said(["findmnt", "-n", "-o", "FSTYPE,OPTIONS", "-T", str(directory)]),
        "versions": {name: _version(command) for name, command in VERSIONS.items()},
        "commit": _commit(),
        "build": _build_type(),
        "busy_before": round(busy_share(), 3),
    }


def busy_share(seconds=1.0):
    """Which part of the processors others use right now."""
    before, _ = processors.machine()
    time.sleep(seconds)  # a measurement, not a synchronisation
    after, _ = processors.machine()
    return (after - before) / seconds / (os.cpu_count() or 1)


def _said(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return " ".join((done.stdout or done.stderr).split())


def _version(command):
    found = re.search(r"\d+(\.\d+)+", _said(command))
    return found.group() if found else "not installed"


def _processor():
    text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _distribution():
    text = pathlib.Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return found[1] if found else "unknown"


def _commit():
    root = str(environment.ROOT)
    git = ["git", "-c", "safe.directory=*", "-C", root]
    commit = _said([*git, "rev-parse", "--short=12", "HEAD"])
    # What a run publishes is not what it measured.
    changed = _said([*git, "status", "--porcelain", "--", ".", ":!docs/performance"])
    return commit + (" with changes" if changed else "") if commit else "unknown"


def _build_type():
    options = _said(["/usr/bin/meson", "configure", str(environment.BUILD), "--no-pager"])
    kept = [re.search(rf"\b{name}\s+(\S+)", options) for name in ("optimization", "b_ndebug")]
    return ", ".join(match.group() for match in kept if match)
