# SPDX-License-Identifier: BSD-3-Clause
"""A backing that can hang or fail: a file that FUSE (nbdfuse) shows of a disk that nbdkit serves."""

import os
import pathlib
import shutil
import signal
import subprocess

from lib import processes
from lib.waiting import accepts, wait_for

SIZE = 64 * 1024 * 1024


def why_not():
    """Why there can be no such disk on this machine, or ""."""
    if os.geteuid() != 0:
        return "needs root: mounts a file by FUSE"
    for name in ("nbdfuse", "nbdkit", "fusermount3"):
        if shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin") is None:
            return f"{name} is not installed"
    return "" if os.path.exists("/dev/fuse") else "there is no /dev/fuse"


class FuseDisk:
    """A file at `path`; its content lies in `image`.

    hang()         every request waits, as on a disk that has stopped to answer
    go_on()        they are carried out
    fail(kind)     "read" or "write" requests fail with EIO from now on
    heal()         no more
    """

    def __init__(self, directory, name, marker, size=SIZE):
        self.directory = pathlib.Path(directory) / f"fuse-{name}"
        self.directory.mkdir()
        self.image = self.directory / "image"
        self.path = self.directory / "mnt" / "disk"
        self.path.parent.mkdir()
        self._socket = self.directory / "sock"
        self.is_hung = False
        self._size = size
        self._environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "MIRRORDISK_TEST": marker}
        with open(self.image, "wb") as image:
            image.truncate(size)
        self.server = self._start(
            "nbdkit", "-f", "-U", self._socket, "--filter=error", "file", self.image,
            "error=EIO", *(word for kind in ("pread", "pwrite") for word in
                           (f"error-{kind}-rate=100%", f"error-{kind}-file={self._trigger(kind)}")))
        wait_for(lambda: accepts(self._socket), "nbdkit to serve the disk")
        self.fuse = self._start("nbdfuse", "-P", self.directory / "pid", self.path,
                                f"nbd+unix:///?socket={self._socket}")
        wait_for(lambda: (self.directory / "pid").exists(), "nbdfuse to show the disk")

    def _trigger(self, kind):
        return self.directory / f"fail-{kind}"

    def _start(self, *words):
        with open(self.directory / "log", "ab") as log:
            return subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                                    stdout=log, stderr=log, env=self._environment,
                                    start_new_session=True)

    def hang(self):
        self.is_hung = True
        processes.send(self.server.pid, signal.SIGSTOP)

    def go_on(self):
        processes.send(self.server.pid, signal.SIGCONT)
        self.is_hung = False

    def fail(self, kind):
        self._trigger({"read": "pread", "write": "pwrite"}[kind]).touch()

    def heal(self):
        for kind in ("pread", "pwrite"):
            self._trigger(kind).unlink(missing_ok=True)

    def forget_cache(self):
        """The next reads go to the disk."""
        with open(self.path, "rb") as disk:
            os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def blank(self):
        """Zeroes everywhere; for a disk that nobody has open."""
        os.truncate(self.image, 0)
        os.truncate(self.image, self._size)
        self.forget_cache()

    def close(self):
        """Ends what hangs, too: the kernel fails it when the server is gone."""
        self.go_on()
        for process in (self.server, self.fuse):
            processes.send(process.pid, signal.SIGKILL)
            process.wait(20)
        subprocess.run(["umount", "--lazy", str(self.path.parent)], check=False,
                       capture_output=True)
