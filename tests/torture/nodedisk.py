# SPDX-License-Identifier: BSD-3-Clause
"""The disk under a node's replica: small enough to be filled up, and one that can hang and fail
where FUSE shows it."""

import errno
import subprocess

from lib.disks import FuseDisk


class NodeDisk:
    """Made before the nodes start; root only. `fuse` is None where it is a plain file."""

    def __init__(self, cluster, node, size, spare, faulty):
        point = cluster.mount_tmpfs(f"disk-{node.name}", (size + spare) // (1024 * 1024))
        self.fuse = FuseDisk(point, node.name, cluster.marker, size) if faulty else None
        self.path = self.fuse.path if faulty else point / "r0.img"
        self._filler = point / "filler"
        self._kept = cluster.directory / f"{node.name}.img"

    @property
    def image(self):
        """What the disk holds, whatever a cache above it says."""
        return self.fuse.image if self.fuse else self.path

    @property
    def is_hung(self):
        return self.fuse is not None and self.fuse.is_hung

    def fill(self):
        with open(self._filler, "ab", buffering=0) as filler:
            try:
                while filler.write(bytes(64 * 1024)):
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def go_on(self):
        if self.fuse:
            self.fuse.go_on()

    def mend(self):
        """It answers, gives no errors and has room."""
        self._filler.unlink(missing_ok=True)
        if self.fuse:
            self.fuse.heal()
            self.fuse.go_on()
            for process in (self.fuse.server, self.fuse.fuse):
                if process.poll() is not None:
                    raise RuntimeError(f"a server of {self.path} ended: {process.args}")

    def close(self):
        if self.fuse:
            self.fuse.close()

    def keep_image(self):
        """For whoever looks into a violation: the file system is gone with the run."""
        subprocess.run(["cp", "--sparse=always", str(self.image), str(self._kept)], check=False)
