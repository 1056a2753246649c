# SPDX-License-Identifier: BSD-3-Clause
"""What is compared in two virtual machines: this project on /dev/nbd0, DRBD, md RAID 1 over nbd, and
a disk and `nbdkit file` without replication. All at once, each on a disk of its own and as a block
device of alpha.
"""

import time

from guests.mirror import Mirror
from guests.pair import ADDRESSES
from lib.waiting import wait_for

from target import REST_SECONDS

MIB = 1 << 20
PACKAGES = ("drbd-utils", "mdadm", "nbd-client")
SIZE = 96 * MIB           # what the loads use of each
DISKS = (128 * MIB,) * 5  # the rest is for DRBD's and md's metadata
BETA = ADDRESSES["beta"]


def serve(node, options, listens):
    """An nbdkit that outlives the command; `listens` is how to see that it is ready."""
    node.run(f"systemd-run --quiet nbdkit -f {options}")
    wait_for(lambda: node.run(listens, check=False).code == 0, f"nbdkit of {node.name} to listen",
             timeout=60, report=node.report)


class GuestTarget:
    """`device` is what alpha's loads use, `backing` the disk below it on both nodes."""

    name = ""
    title = ""
    note = ""
    backing = ""
    device = ""
    replicates = True

    def __init__(self, pair):
        self.pair = pair
        self.alpha, self.beta = pair.nodes
        self._last_used = 0.0

    def was_used(self):
        self._last_used = time.monotonic()

    def rest(self):
        """Until this project and md note nothing as in flight any more."""
        time.sleep(max(0.0, self._last_used + REST_SECONDS - time.monotonic()))

    def start(self):
        raise NotImplementedError

    def sums(self):
        """Of the part that the loads use, past all caches; one a replica."""
        nodes = self.pair.nodes if self.replicates else (self.alpha,)
        return [node.out(f"sync; dd if={self.backing} bs=1M count={SIZE // MIB} iflag=direct "
                         "status=none | md5sum", timeout=180).split()[0] for node in nodes]


class Disk(GuestTarget):
    name = "disk"
    title = "the disk itself"
    note = "no replication, no userspace: the limit"
    backing = device = "/dev/vdd"
    replicates = False

    def start(self):
        pass


class NbdFile(GuestTarget):
    name = "nbd-file"
    title = "nbdkit file on /dev/nbd2"
    note = "no replication: the limit of what a userspace block device over nbd can reach"
    backing = "/dev/vde"
    device = "/dev/nbd2"
    replicates = False

    def start(self):
        serve(self.alpha, f"-U /run/bench.sock file {self.backing}", "test -S /run/bench.sock")
        self.alpha.run(f"modprobe nbd && nbd-client -unix /run/bench.sock {self.device}")


class Drbd(GuestTarget):
    name = "drbd"
    title = "DRBD 8.4, protocol C"
    note = "the kernel's module; it does not wait for the peer's disk when a client flushes"
    backing = "/dev/vdf"
    device = "/dev/drbd0"

    def start(self):
        for node in self.pair.nodes:
            node.write("/etc/drbd.d/bench.res", self._config())
            node.write("/etc/drbd.d/global_common.conf", "global { usage-count no; }\n")
            node.run("modprobe drbd && drbdadm create-md --force bench && drbdadm up bench",
                     timeout=120)
        # Both disks are empty: nothing has to be copied first.
        wait_for(lambda: "Connected" in self.alpha.out("drbdadm cstate bench", check=False),
                 "DRBD to connect", timeout=120, report=self.alpha.report)
        self.alpha.run("drbdadm new-current-uuid --clear-bitmap bench/0 && drbdadm primary bench")
        wait_for(lambda: self.alpha.out("drbdadm dstate bench") == "UpToDate/UpToDate",
                 "DRBD to be up to date", timeout=120, report=self.alpha.report)

    def _config(self):
        nodes = "".join(f"  on {name} {{ address {address}:7789; }}\n"
                        for name, address in ADDRESSES.items())
        return (f"resource bench {{\n  protocol C;\n  device {self.device};\n"
                f"  disk {self.backing};\n  meta-disk internal;\n{nodes}}}\n")


class Md(GuestTarget):
    name = "md"
    title = "md RAID 1 over nbd, internal bitmap"
    note = "the second member is `nbdkit file` on the other node"
    backing = "/dev/vdg"
    device = "/dev/md0"

    def start(self):
        # Or beta would make an array of its own of what is written there.
        self.beta.write("/etc/mdadm/mdadm.conf", "AUTO -all\n")
        serve(self.beta, f"-p 10900 file {self.backing}", "ss -Htln sport = :10900 | grep -q .")
        # The metadata is at the end, so that both members have the data at the same place.
        self.alpha.run(
            f"modprobe nbd; nbd-client {BETA} 10900 /dev/nbd1 && mdadm --create {self.device} "
            f"--run --level=1 --raid-devices=2 --bitmap=internal --assume-clean --metadata=1.0 "
            f"{self.backing} /dev/nbd1", timeout=120)


class Mirrordisk(GuestTarget):
    name = "mirror-nbd0"
    title = "mirrordisk on /dev/nbd0"
    note = "this project; TLS off, since DRBD and md do not encrypt either"
    backing = "/dev/vdh"
    device = "/dev/nbd0"

    def start(self):
        # A replica is as large as its block device, and a block device always counts as in use.
        self._mirror = Mirror(self.pair).set_up(
            size=f"{DISKS[0] // MIB}MiB", create="--overwrite-peer", tls="off", **{
                "peer_timeout": "60s", "backing.alpha": self.backing,
                "backing.beta": self.backing})

    def switch(self):
        """Seconds of the longer one of there and back; nobody uses the volume, its device is
        attached before and afterwards."""
        return max(self._switch_to(node) for node in (self.beta, self.alpha))

    def _switch_to(self, node):
        took = node.out("began=$(date +%s%N); "
                        f"mirrorctl switch r0 --to {node.name} >&2 || exit; "
                        "echo $(($(date +%s%N) - began))", timeout=180)
        self._mirror.wait_in_sync(node)
        return int(took) / 1e9


TARGETS = (Disk, NbdFile, Drbd, Md, Mirrordisk)
