# SPDX-License-Identifier: BSD-3-Clause
"""A machine to install packages on: this one's root file system below a layer that is thrown away.

Nothing has to be downloaded, and the packages' dependencies are those of the build. A process holds
the namespaces (mounts, processes, network); when it is killed, all that was started in there ends,
and the layer is gone.
"""

import os
import subprocess
import tempfile

SETUP = r"""
set -e
mount --make-rprivate /
mount -t tmpfs -o size=2g,mode=755 scratch "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
root=$1/root
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
ip link set lo up 2>/dev/null || true
mkdir -p "$root/packages"
mount --bind "$2" "$root/packages"
rm -rf "$root/etc/mirrordisk" "$root/var/lib/mirrordisk"
echo ready
exec sleep infinity
"""

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Scratch:
    """A context; `obstacle` says why there is none on this machine."""

    def __init__(self, packages):
        self.obstacle = "" if os.geteuid() == 0 else "installing packages needs root"
        self._packages = str(packages)
        self._holder = None
        self._directory = None

    def __enter__(self):
        if self.obstacle:
            return self
        self._directory = tempfile.mkdtemp(prefix="mirrordisk-packages-")
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "sh", "-c", SETUP,
             "sh", self._directory, self._packages],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self._holder.stdout.readline().strip() != "ready":
            self._holder.kill()
            words = self._holder.communicate()[1].strip().splitlines()
            self.obstacle = "no layer over this root file system: " + (words or ["?"])[-1]
        return self

    def __exit__(self, *_):
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
        if self._directory is not None:
            os.rmdir(self._directory)  # its content was in a mount that is gone

    def _inside(self, command, extra_environment):
        with open(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children",
                  encoding="ascii") as file:
            child = file.read().split()[0]
        environment = ENVIRONMENT | (extra_environment or {})
        return (["nsenter", "--target", child, "--mount", "--root", "--pid", "--net",
                 "chroot", f"{self._directory}/root", *command], environment)

    def run(self, *command, environment=None, stdin=""):
        """Runs a command there to its end; out and err are one text."""
        line, variables = self._inside(command, environment)
        return subprocess.run(line, env=variables, input=stdin, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)

    def must(self, *command, **options):
        done = self.run(*command, **options)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def start(self, *command):
        """Starts a command there; it ends with the scratch machine."""
        line, variables = self._inside(command, None)
        return subprocess.Popen(line, env=variables, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def write(self, path, text):
        self.must("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path, stdin=text)
