# SPDX-License-Identifier: BSD-3-Clause
"""From a volume to a mounted filesystem, and back: through /dev/nbdX, or nbdfuse and a loop."""

import fcntl
import os
import pathlib
import shutil
import subprocess

from machine import StepFailed, run, wait_until

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = (2).to_bytes(4, "little")
_NBD_CLEAR_SOCK = 0xAB04
_NBD_DISCONNECT = 0xAB08


def free_kernel_device():
    """A /dev/nbdX that nobody uses, or None where the kernel has none."""
    if not os.path.exists("/dev/nbd0") and shutil.which("modprobe"):
        run("modprobe", "nbd", check=False)
    for number in range(16):
        if (os.path.exists(f"/dev/nbd{number}")
                and not os.path.exists(f"/sys/block/nbd{number}/pid")
                and pathlib.Path(f"/sys/block/nbd{number}/size").read_text().strip() == "0"):
            return f"/dev/nbd{number}"
    return None


def explain_impossible():
    """Why neither way works here, or None."""
    missing = [path for path in ("/dev/fuse", "/dev/loop-control") if not os.path.exists(path)]
    if missing:
        return (f"this machine has no nbd devices, and no {' and '.join(missing)} either: "
                "a filesystem cannot be mounted here (in a container: run it with these devices)")
    return None


class Disk:
    """The volume of one machine as a block device with a filesystem on it."""

    def __init__(self, machine, kernel_device):
        self.machine = machine
        self.device = None
        self.mountpoint = machine.directory / "mnt"
        self._kernel_device = kernel_device
        self._fuse_dir = machine.directory / "fuse"
        self._fuse = None

    @property
    def way(self):
        return self._kernel_device or "nbdfuse and a loop device"

    def attach(self):
        if self._kernel_device:
            path = pathlib.Path("/sys/block") / os.path.basename(self._kernel_device) / "size"
            wait_until(lambda: path.read_text().strip() != "0", f"{self._kernel_device}")
            self.device = self._kernel_device
            return
        self._fuse_dir.mkdir(exist_ok=True)
        image = self._fuse_dir / "disk"
        with open(self.machine.directory / "nbdfuse.log", "ab") as log:
            self._fuse = subprocess.Popen(
                ["nbdfuse", str(image), self.machine.uri], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=self.machine.environment(), start_new_session=True)

        def there():
            if self._fuse.poll() is not None:
                raise StepFailed(f"nbdfuse ended with {self._fuse.returncode}: "
                                 + (self.machine.directory / "nbdfuse.log").read_text())
            return os.path.exists(image)
        wait_until(there, "nbdfuse")
        self.device = run("losetup", "--find", "--show", image).stdout.strip()

    def format(self):
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.device)

    def mount(self):
        self.mountpoint.mkdir(exist_ok=True)
        run("mount", "-t", "ext4", self.device, self.mountpoint)

    def unmount(self):
        run("umount", self.mountpoint)

    def check(self):
        """fsck -fn: reads everything, changes nothing; raises if anything is wrong."""
        run("e2fsck", "-fn", self.device)

    def detach(self):
        if self._fuse is None:
            self.device = None  # mirrord takes a kernel device away at demote
            return
        run("losetup", "--detach", self.device)
        self.device = None
        run("fusermount3", "-u", self._fuse_dir)
        self._fuse.wait(20)
        self._fuse = None

    def power_off(self):
        """What the death of the machine means for its kernel: nothing in memory gets out.

        The processes are dead already. Never fails, whatever state things are in: it is the
        cleanup too.
        """
        try:
            descriptor = os.open(self.mountpoint, os.O_RDONLY)
            try:
                if os.path.ismount(self.mountpoint):
                    fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, _NO_LOG_FLUSH)
            finally:
                os.close(descriptor)
        except OSError:
            pass
        if os.path.ismount(self.mountpoint):
            run("umount", self.mountpoint, check=False)
            if os.path.ismount(self.mountpoint):
                run("umount", "--lazy", self.mountpoint, check=False)
        if self._kernel_device and self.device:
            self._drop_kernel_device()
        elif self.device:
            run("losetup", "--detach", self.device, check=False)
        self.device = None
        if self._fuse is not None:
            self._fuse.kill()
            self._fuse.wait()
            self._fuse = None
        if os.path.exists("/proc/self/mounts") and self._is_fuse_mounted():
            run("fusermount3", "-uz", self._fuse_dir, check=False)

    def _is_fuse_mounted(self):
        return any(line.split()[1] == str(self._fuse_dir)
                   for line in pathlib.Path("/proc/self/mounts").read_text().splitlines())

    def _drop_kernel_device(self):
        try:
            descriptor = os.open(self._kernel_device, os.O_RDWR)
        except OSError:
            return
        for request in (_NBD_DISCONNECT, _NBD_CLEAR_SOCK):
            try:
                fcntl.ioctl(descriptor, request)
            except OSError:
                pass
        os.close(descriptor)
