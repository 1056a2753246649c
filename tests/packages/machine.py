# SPDX-License-Identifier: BSD-3-Clause
"""What is done with packages, the same for both kinds."""

import json
import time

CONFIG = """
[node.alpha]
address = "127.0.0.1:20809"
run_dir = "/run/alpha"
state_dir = "/var/lib/mirrordisk/alpha"
[node.beta]
address = "127.0.0.1:20810"
run_dir = "/run/beta"
state_dir = "/var/lib/mirrordisk/beta"
[volume.r0]
size = "16MiB"
backing.alpha = "/srv/alpha.img"
backing.beta = "/srv/beta.img"
"""


class Machine:
    def __init__(self, scratch, files):
        self.scratch = scratch
        self.files = [f"/packages/{file.name}" for file in files]

    # -- two nodes on the machine ----------------------------------------------------------------

    def serve(self):
        """Both nodes run, r0 is active on alpha and in sync."""
        self.scratch.write("/etc/mirrordisk/mirrordisk.toml", CONFIG)
        self.scratch.must("mkdir", "-p", "/srv")
        done = self.ctl("keygen", "alpha")
        assert done.returncode == 0, done.stdout
        for node in ("alpha", "beta"):
            self.scratch.start("mirrord", "--node", node)
            self.wait_for(f"mirrord of {node}", lambda node=node: self.ctl("version", node).returncode == 0)
        for verb in ("create", "promote"):
            done = self.ctl(verb, "alpha", "r0")
            assert done.returncode == 0, done.stdout
        self.wait_for("r0 in sync", lambda: self.ctl("status", "alpha").returncode == 0)

    def ctl(self, verb, node, *arguments):
        return self.scratch.run("mirrorctl", verb, "--node", node, *arguments)

    def role(self):
        return json.loads(self.ctl("status", "alpha", "--json").stdout)["volumes"][0]["role"]

    def engine(self):
        return self.scratch.run("cat", "/run/alpha/r0.pid").stdout.strip()

    def serves(self):
        done = self.scratch.run("nbdinfo", "--size", "nbd+unix:///?socket=/run/alpha/r0.sock")
        return done.stdout.strip() == str(16 << 20)

    @staticmethod
    def wait_for(what, condition):
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.1)


class DebMachine(Machine):
    kind = "deb"
    plugin_package = "nbdkit-plugin-mirror"

    def install(self):
        return self.scratch.must("dpkg", "--install", *self.files)

    def upgrade(self):
        """To the same with a higher revision."""
        script = r"""
            set -e
            cd "$(mktemp -d)"
            for file in "$@"; do
                rm -rf tree && dpkg-deb -R "$file" tree
                sed -i -E 's/^(Version: .*|Depends:.*mirror \(= [0-9.]+)-1/\1-2/' tree/DEBIAN/control
                dpkg-deb -b -Znone tree . >/dev/null
            done
            dpkg --install ./*.deb"""
        out = self.scratch.must("sh", "-c", script, "sh", *self.files)
        assert self.scratch.must("dpkg-query", "-W", "-f", "${Version}", "mirrordisk").endswith("-2")
        return out

    def remove(self):
        return self.scratch.run("dpkg", "--remove", "mirrordisk", self.plugin_package)

    def purge(self):
        return self.scratch.must("dpkg", "--purge", "mirrordisk", self.plugin_package)

    def is_installed(self):
        done = self.scratch.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "mirrordisk")
        return done.stdout == "installed"

    def file_list(self):
        return self.scratch.must("dpkg", "-L", "mirrordisk", self.plugin_package).splitlines()


class RpmMachine(Machine):
    """With --nodeps: rpm's database on Debian has none of the packages that are installed."""
    kind = "rpm"
    plugin_package = "nbdkit-mirror-plugin"
    plugin = "/usr/lib64/nbdkit/plugins/nbdkit-mirror-plugin.so"

    def install(self):
        return self.scratch.must("rpm", "--install", "--nodeps", *self.files)

    def upgrade(self):
        """The same once more goes the way of an upgrade: new scripts, then those of the old one."""
        return self.scratch.must("rpm", "--upgrade", "--nodeps", "--force", *self.files)

    def remove(self):
        return self.scratch.run("rpm", "--erase", "mirrordisk", self.plugin_package)

    purge = remove

    def is_installed(self):
        return self.scratch.run("rpm", "--query", "mirrordisk").returncode == 0

    def file_list(self):
        return self.scratch.must("rpm", "--query", "--list", "mirrordisk",
                                 self.plugin_package).splitlines()
