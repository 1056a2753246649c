# SPDX-License-Identifier: BSD-3-Clause
"""Which build is under test, how slow it is, and what its processes need in their environment."""

import collections
import fcntl
import functools
import os
import pathlib
import random
import socket
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("MIRRORDISK_BUILD", ROOT / "build")).resolve()
MIRRORD = BUILD / "daemon" / "mirrord"
MIRRORCTL = BUILD / "tools" / "mirrorctl"
PLUGIN = BUILD / "plugin" / "nbdkit-mirror-plugin.so"

# Through which door applications use a volume: "nbdkit" or "express".
DOORS = ("nbdkit", "express")
DOOR = os.environ.get("MIRRORDISK_TEST_DOOR", "nbdkit")
assert DOOR in DOORS, f"MIRRORDISK_TEST_DOOR={DOOR}: there are {DOORS}"

# What others can write would be refused, and a person's umask may be 002.
os.umask(0o022)

# Below the range that the kernel hands out to clients, so that nobody is there by chance.
PORTS = range(26000, 32000)


@functools.lru_cache(maxsize=None)
def sanitizer():
    """'asan', 'tsan' or '': what the build is instrumented with."""
    libraries = subprocess.run(["ldd", str(MIRRORD)], capture_output=True, text=True,
                               check=False).stdout
    for name in ("asan", "tsan"):
        if f"lib{name}.so" in libraries:
            return name
    return ""


@functools.lru_cache(maxsize=None)
def slowness():
    """By how much deadlines are longer than on a plain build."""
    given = os.environ.get("MIRRORDISK_TEST_SLOWNESS")
    return float(given) if given else {"": 1.0, "asan": 3.0, "tsan": 6.0}[sanitizer()]


def tls():
    """How clusters protect their links, unless a test says otherwise: psk, x509 or off."""
    return os.environ.get("MIRRORDISK_TEST_TLS", "psk")


@functools.lru_cache(maxsize=None)
def preload():
    """nbdkit itself is not instrumented: its process needs the sanitizer's library first."""
    if not sanitizer():
        return ""
    names = {"asan": ("libasan.so", "libubsan.so"), "tsan": ("libtsan.so",)}[sanitizer()]
    found = [subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True,
                            check=True).stdout.strip() for name in names]
    return ":".join(str(pathlib.Path(path).resolve()) for path in found)


def process_environment(marker, report_prefix):
    """The environment of mirrord and all that it starts; `marker` makes them findable."""
    environment = {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "MIRRORDISK_PLUGIN": str(PLUGIN),
        "MIRRORDISK_TEST": marker,
    }
    if sanitizer():
        common = f"log_path={report_prefix}:exitcode=99:abort_on_error=0"
        environment["MIRRORDISK_ENGINE_PRELOAD"] = preload()
        environment["ASAN_OPTIONS"] = common + ":detect_leaks=0"
        environment["UBSAN_OPTIONS"] = common + ":print_stacktrace=1"
        environment["TSAN_OPTIONS"] = (
            common + ":halt_on_error=0:second_deadlock_stack=1:"
            f"suppressions={ROOT}/tests/e2e/tsan.supp")
    return environment


class PortReservations:
    """A node that is down for a while must find its port free when it comes back, whatever other
    test runs there are on this machine: a byte of a common file is locked for each port of the
    clusters that this process may still have."""

    MOST = 200

    def __init__(self):
        self._file = open(f"/tmp/mirrordisk-test-ports-{os.getuid()}", "a+b")
        self._taken = collections.deque()

    def take(self, port):
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self._taken.append(port)
        if len(self._taken) > self.MOST:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._taken.popleft())
        return True


@functools.cache
def reservations():
    return PortReservations()


def is_unused(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count):
    """Ports on 127.0.0.1 that nobody listens on, and that no other test run is given."""
    chosen = []
    while len(chosen) < count:
        port = random.SystemRandom().choice(PORTS)
        if port not in chosen and reservations().take(port) and is_unused(port):
            chosen.append(port)
    return chosen
