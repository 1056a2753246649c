# SPDX-License-Identifier: BSD-3-Clause
"""systemd's watchdog: signs of life come from a mirrord that works, and from no other."""

import ctypes
import os
import pathlib
import socket

import pytest

from lib import environment
from lib.waiting import wait_for

SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000  # waitpid's __WALL: threads, too


class ServiceManager:
    """The side of systemd that is told."""

    def __init__(self, node, limit_seconds):
        path = node.directory / "notify.sock"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20 * environment.slowness())
        node.extra_environment |= {"NOTIFY_SOCKET": str(path),
                                   "WATCHDOG_USEC": str(int(limit_seconds * 1e6))}

    def wait_for_sign(self):
        while b"WATCHDOG=1" not in self.socket.recv(4096).splitlines():
            pass

    def forget(self):
        """All that was told so far; how many signs of life were among it."""
        self.socket.setblocking(False)
        signs = 0
        try:
            while True:
                signs += b"WATCHDOG=1" in self.socket.recv(4096)
        except BlockingIOError:
            return signs
        finally:
            self.socket.settimeout(20 * environment.slowness())


@pytest.fixture
def watched(make_cluster):
    cluster = make_cluster()
    cluster.manager = ServiceManager(cluster.alpha, 2)
    cluster.start_active()
    yield cluster
    cluster.manager.socket.close()


class StoppedThreads:
    """The threads of that name stand still while all the others run."""

    def __init__(self, pid, name):
        self.libc = ctypes.CDLL(None, use_errno=True)
        tasks = pathlib.Path(f"/proc/{pid}/task")
        self.threads = [int(task.name) for task in tasks.iterdir()
                        if (task / "comm").read_text().strip() == name]

    def ptrace(self, request, thread):
        if self.libc.ptrace(request, thread, None, None) != 0:
            error = ctypes.get_errno()
            if error == 1:
                pytest.skip("threads can't be stopped here (ptrace is not permitted)")
            raise OSError(error, os.strerror(error))

    def __enter__(self):
        assert self.threads
        for thread in self.threads:
            self.ptrace(SEIZE, thread)
            self.ptrace(INTERRUPT, thread)
            os.waitpid(thread, WALL)
        return self

    def __exit__(self, *failure):
        for thread in self.threads:
            self.ptrace(DETACH, thread)


def test_a_mirrord_that_works_gives_signs_of_life(watched):
    for _ in range(3):
        watched.manager.wait_for_sign()
    # What a volume waits for is no reason to give none.
    watched.beta.pause()
    try:
        watched.wait_state(watched.alpha, "broken")
        watched.manager.forget()
        watched.manager.wait_for_sign()
    finally:
        watched.beta.go_on()
    watched.wait_in_sync(watched.alpha)
    watched.alpha.ctl("demote", "r0")
    watched.assert_replicas_equal()


@pytest.mark.seconds(40)
def test_a_mirrord_that_lets_nobody_in_gives_no_sign_of_life(watched):
    watched.manager.wait_for_sign()
    said = "gives no sign of life"
    with StoppedThreads(watched.alpha.daemon.pid, "accept"):
        wait_for(lambda: said in watched.alpha.log.read_text(encoding="utf-8"),
                 "mirrord to find that it does not answer", timeout=60)
        # One test may have been over when the threads were stopped, and no other since.
        assert watched.manager.forget() <= 2
        assert watched.manager.forget() == 0
    watched.manager.wait_for_sign()
    watched.wait_in_sync(watched.alpha)
    watched.alpha.ctl("demote", "r0")
    watched.assert_replicas_equal()
