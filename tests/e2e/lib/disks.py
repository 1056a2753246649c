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
_UNLIMITED = 10**12


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
    slow()         it gets 2 MiB done in a second, and never stands still
    go_on()        they are carried out
    fail(kind)     "read" or "write" requests fail with EIO from now on
    heal()         no more
    """

    def __init__(self, directory, name, marker, size=SIZE, options=("umask=077",)):
        self.directory = pathlib.Path(directory) / f"fuse-{name}"
        self.directory.mkdir()
        self.image = self.directory / "image"
        self.path = self.directory / "mnt" / "disk"
        self.path.parent.mkdir()
        self._socket = self.directory / "sock"
        self._rate = self.directory / "rate"
        self.is_hung = False
        self._size = size
        self._environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "MIRRORDISK_TEST": marker}
        with open(self.image, "wb") as image:
            image.truncate(size)
        self.server = self._start("nbdkit", "-f", "-U", self._socket, *self._plugin())
        wait_for(lambda: accepts(self._socket), "nbdkit to serve the disk")
        self.fuse = self._start("nbdfuse", *(word for option in options for word in ("-o", option)),
                                "-P", self.directory / "pid", self.path,
                                f"nbd+unix:///?socket={self._socket}")
        wait_for(lambda: (self.directory / "pid").exists(), "nbdfuse to show the disk")

    def _plugin(self):
        return ("--filter=rate", "--filter=error", "file", self.image, "error=EIO",
                f"rate-file={self._rate}",
                *(word for kind in ("pread", "pwrite") for word in
                  (f"error-{kind}-rate=100%", f"error-{kind}-file={self._trigger(kind)}")))

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

    def slow(self, rate=2 * 1024 * 1024):
        """`rate`: bytes a second, of reads and of writes each."""
        self._set_rate(8 * rate)

    def _set_rate(self, bits):
        fresh = self._rate.with_suffix(".new")
        fresh.write_text(f"{bits}\n", encoding="utf-8")
        fresh.rename(self._rate)

    def go_on(self):
        if self._rate.exists():
            self._set_rate(_UNLIMITED)
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


class SoreDisk(FuseDisk):
    """A disk with bad sectors: make_bad() gives it some. A read that touches one fails; a write
    that covers one repairs it, as disks do. A process a request: for small volumes only."""

    SCRIPT = """#!/bin/sh
case "$1" in
    get_size) stat -c %s "$image" ;;
    pread)
        while read -r at length; do
            if [ "$at" -lt $(($4 + $3)) ] && [ $((at + length)) -gt "$4" ]; then
                echo "EIO bad sector at $at" >&2
                exit 1
            fi
        done < "$bad"
        dd if="$image" iflag=skip_bytes,count_bytes bs=1M skip="$4" count="$3" status=none ;;
    pwrite)
        dd of="$image" iflag=fullblock oflag=seek_bytes bs=1M seek="$4" conv=notrunc status=none
        while read -r at length; do
            if [ "$at" -lt "$4" ] || [ $((at + length)) -gt $(($4 + $3)) ]; then
                echo "$at $length"
            fi
        done < "$bad" > "$bad.new"
        mv "$bad.new" "$bad" ;;
    can_write | can_flush | flush) ;;
    thread_model) echo serialize_all_requests ;;
    *) exit 2 ;;
esac
"""

    def _plugin(self):
        self.bad = self.directory / "bad"
        self.heal()
        script = self.directory / "disk.sh"
        values = f"image='{self.image}'\nbad='{self.bad}'\n"
        script.write_text(self.SCRIPT.replace("\n", "\n" + values, 1), encoding="utf-8")
        script.chmod(0o755)
        return "sh", script

    def make_bad(self, *ranges):
        """Offset and length each; sectors, 512 bytes."""
        self.bad.write_text("".join(f"{at} {length}\n" for at, length in ranges), encoding="utf-8")
        self.forget_cache()

    def heal(self):
        self.bad.write_text("", encoding="utf-8")
