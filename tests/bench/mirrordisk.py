# SPDX-License-Identifier: BSD-3-Clause
"""This project as a target: each of its doors, with TLS off and on, and with a peer that does not
group flushes."""

import tempfile

import jobs
from lib import environment
from lib.cluster import Cluster
from lib.waiting import accepts

from target import Target, Unavailable

VOLUME = "r0"


class Mirrordisk(Target):
    name = "mirror"
    title = "mirrordisk"
    quick = True
    note = "this project, through nbdkit's socket; TLS off, as with the others"
    replicates = True
    tls = "off"
    door = ".sock"             # RUN_DIR/VOLUME and this
    peer_program = None        # instead of the build's mirrord
    peer_environment = {}

    def start(self):
        # Beside the target's directory: the path of a Unix socket must be short.
        tempfile.tempdir = str(self.directory.parent)
        self.cluster = Cluster({VOLUME: {"size": str(self.size), "peer_timeout": "30s"}},
                               tls=self.tls)
        self.marker = self.cluster.marker
        if self.peer_program:
            self.cluster.beta.program = environment.BUILD / self.peer_program
            self.cluster.beta.extra_environment = self.peer_environment
        self.cluster.start_active()
        socket = self.cluster.alpha.run_dir / f"{VOLUME}{self.door}"
        if not accepts(socket):
            raise Unavailable(f"this build does not serve VOLUME{self.door}")
        self.uri = f"nbd+unix:///?socket={socket}"
        self.files = [self.cluster.backing(node) for node in self.cluster.nodes]

    def close(self):
        if getattr(self, "cluster", None):
            self.cluster.close()
        super().close()


class Express(Mirrordisk):
    name = "mirror-express"
    title = "mirrordisk express"
    note = "this project, through the engine's own socket, which the kernel's device uses; TLS off"
    door = ".express.sock"


class MirrordiskTls(Mirrordisk):
    name = "mirror-tls"
    title = "mirrordisk, TLS"
    note = "this project, with TLS between the nodes (a pre-shared key): what it does by default"
    tls = "psk"
    quick = False
    only_jobs = jobs.ENCRYPTED


class ExpressTls(MirrordiskTls):
    name = "mirror-express-tls"
    title = "mirrordisk express, TLS"
    note = "the same through the engine's own socket"
    door = ".express.sock"


class Ungrouped(Mirrordisk):
    name = "mirror-ungrouped"
    title = "mirrordisk, ungrouped peer"
    note = ("this project, but the peer syncs its disk once for each request, up to 16 at the same "
            "time, as a server with a thread for each request: what grouping is worth")
    peer_program = "tests/bench/mirrord_ungrouped"
    only_jobs = jobs.UNGROUPED


class UngroupedSerial(Ungrouped):
    name = "mirror-ungrouped-serial"
    title = "mirrordisk, ungrouped peer, one thread"
    note = "the same, one sync after the other"
    peer_environment = {"MIRROR_FLUSH_EACH": "serial"}
    quick = False


TARGETS = (Mirrordisk, Express, MirrordiskTls, ExpressTls, Ungrouped, UngroupedSerial)
