# SPDX-License-Identifier: BSD-3-Clause
"""The volume r0 on both guests: set up, moved, compared."""

from guests import loads
from guests.extent import ALL
from guests.pair import ADDRESSES
from lib.waiting import wait_for

DEVICE = "/dev/nbd0"
MOUNT = "/mnt"
CONFIG = "/etc/mirrordisk/mirrordisk.toml"
SIZE = "256MiB" if ALL else "128MiB"
KEY = "/etc/mirrordisk/cluster.psk"

# Ends what an earlier test has left, in any state; says so when only a reboot helps.
CLEAN = f"""
systemctl stop mirrord
umount -A {DEVICE} 2>/dev/null
pkill -9 -x nbdkit
test -b {DEVICE} && mirrorctl detach r0 2>/dev/null
rm -rf /var/lib/mirrordisk/* /run/mirrordisk/* /srv/* {CONFIG} {KEY} /etc/mirrordisk/hooks.d/* /etc/mirrordisk/events.d/*
"""


class Mirror:
    """`keys` of set_up() replace or add to those of the volume in the config."""

    def __init__(self, pair):
        self.alpha, self.beta = self.nodes = pair.nodes

    def other(self, node):
        return self.beta if node is self.alpha else self.alpha

    # -- the volume ------------------------------------------------------------------------------

    def set_up(self, size=SIZE, create="", tls="psk", **keys):
        """Created, alpha is active, both are in sync. The device has no filesystem. `create` are
        options of that verb."""
        for node in self.nodes:
            loads.install(node)
            node.write(CONFIG, self._config({"size": size} | keys, tls))
        if tls == "psk":
            self.make_key()
        self.start()
        self.ctl(self.alpha, f"create r0 {create}")
        self.promote(self.alpha)
        self.wait_in_sync()
        return self

    def start(self):
        # To enable a unit, even one that is, makes systemd read all units again: seconds here.
        self.on_both("modprobe nbd; systemctl reset-failed mirrord;"
                     "systemctl is-enabled -q mirrord || systemctl enable mirrord;"
                     "systemctl start mirrord")
        for node in self.nodes:
            self.wait_answers(node)

    def on_both(self, command, timeout=60, check=True):
        """At the same time; what each printed."""
        running = [node.begin(command) for node in self.nodes]
        for each in running:
            each.end_input()
        outcomes = [each.wait(timeout) for each in running]
        for outcome in outcomes:
            assert outcome.code == 0 or not check, str(outcome)
        return [outcome.out for outcome in outcomes]

    def make_key(self):
        self.alpha.run("mirrorctl keygen")
        self.copy_key()

    def copy_key(self, path=KEY, user="root"):
        """What scp -p would do, which the guests lack."""
        key = self.alpha.out(f"cat {path}")
        self.beta.run(f"umask 077; cat > {path} && chown {user}: {path} && sync {path}",
                      data=f"{key}\n".encode())

    def _config(self, keys, tls="psk"):
        settings = {"device": DEVICE, "peer_timeout": "10s",
                    "backing.alpha": "/srv/r0.img", "backing.beta": "/srv/r0.img"} | keys
        # Nobody else is on the cable between the guests.
        lines = [] if tls == "psk" else [f'tls = "{tls}"', "i_know_this_network_is_private = true"]
        lines += [f'[node.{name}]\naddress = "{address}:10809"'
                  for name, address in ADDRESSES.items()]
        lines += ["[volume.r0]"] + [f'{key} = "{value}"' for key, value in settings.items()]
        return "\n".join(lines) + "\n"

    def wait_answers(self, node):
        wait_for(lambda: node.run("mirrorctl version", check=False).code == 0,
                 f"mirrord of {node.name}", timeout=120, report=node.report)

    def ctl(self, node, arguments, **options):
        return node.run(f"mirrorctl {arguments}", **({"timeout": 180} | options))

    def status(self, node):
        return node.json("mirrorctl status --json r0")["volumes"][0]

    def promote(self, node, options=""):
        outcome = self.ctl(node, f"promote r0 {options}")
        assert int(node.out("cat /sys/block/nbd0/size")) > 0, outcome
        return outcome

    def wait_in_sync(self, node=None, timeout=600):
        node = node or self.active()
        self.ctl(node, f"wait r0 --for in-sync --timeout {timeout}", timeout=timeout + 60)

    def active(self):
        for node in self.nodes:
            if node.is_running() and self.status(node)["role"] == "active":
                return node
        raise AssertionError("no node is active")

    def engine_pid(self, node):
        return int(node.out("cat /run/mirrordisk/r0.pid"))

    def kill_engine(self, node):
        node.run("kill -9 $(cat /run/mirrordisk/r0.pid)")

    # -- a filesystem ----------------------------------------------------------------------------

    def make_filesystem(self, node, kind="ext4"):
        force = {"ext4": "-F", "xfs": "-f"}[kind]
        node.run(f"mkfs.{kind} -q {force} {DEVICE} && mount {DEVICE} {MOUNT}", timeout=180)

    def check_filesystem(self, node, kind="ext4"):
        """Unmounted, and nothing to repair."""
        checks = {"ext4": "e2fsck -fn", "xfs": "xfs_repair -n"}
        node.run(f"umount {MOUNT} && {checks[kind]} {DEVICE}", timeout=180)

    # -- the end of a test -----------------------------------------------------------------------

    def assert_equal(self):
        """Byte by byte, with both replicas at rest."""
        node = self.active()
        self.wait_in_sync(node)
        node.run(f"if mountpoint -q {MOUNT}; then umount {MOUNT}; fi", timeout=120)
        self.ctl(node, "demote r0")
        sums = self.on_both("md5sum < /srv/r0.img", timeout=180)
        assert sums[0] == sums[1] != "", "the replicas differ"

    def clean(self):
        """Whether the guests are as if no test had been."""
        self.on_both(CLEAN, timeout=120, check=False)
        sizes = self.on_both("cat /sys/block/nbd0/size 2>/dev/null || echo 0")
        return all(size.strip() == "0" for size in sizes)
