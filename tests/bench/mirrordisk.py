# SPDX-License-Identifier: BSD-3-Clause
"""This project as a target: each of its doors, with TLS off and on, and with a peer that does not
group flushes."""

import tempfile

from lib import environment
from lib.cluster import Cluster
from lib.waiting import accepts

from psk import write_psk
from target import Target, Unavailable

VOLUME = "r0"


class BenchCluster(Cluster):
    """`top` are keys at the top of the config file."""

    def __init__(self, volumes, top):
        self.top = top
        super().__init__(volumes)

    def config_text(self, **overrides):
        lines = [f'{key} = "{value}"' for key, value in self.top.items()]
        return "\n".join([*lines, super().config_text(**overrides)])


class Mirrordisk(Target):
    name = "mirror"
    title = "mirrordisk"
    quick = True
    note = "this project, through nbdkit's socket"
    replicates = True
    tls = False
    door = ".sock"             # RUN_DIR/VOLUME and this
    peer_program = None        # instead of the build's mirrord

    def start(self):
        # Beside the target's directory: the path of a Unix socket must be short.
        tempfile.tempdir = str(self.directory.parent)
        self.cluster = BenchCluster({VOLUME: {"size": str(self.size), "peer_timeout": "30s"}},
                                    self._settings())
        self.marker = self.cluster.marker
        self._check_settings()
        if self.peer_program:
            self.cluster.beta.program = environment.BUILD / self.peer_program
        self.cluster.start_active()
        socket = self.cluster.alpha.run_dir / f"{VOLUME}{self.door}"
        if not accepts(socket):
            raise Unavailable(f"this build does not serve {socket.name}")
        self.uri = f"nbd+unix:///?socket={socket}"
        self.files = [self.cluster.backing(node) for node in self.cluster.nodes]

    def close(self):
        if getattr(self, "cluster", None):
            self.cluster.close()
        super().close()

    def _settings(self):
        if self.tls:
            return {"tls": "psk", "psk_file": str(write_psk(self.directory))}
        # Said where it can be said: what is on by default may change.
        return {} if self._complaint_about({"tls": "off"}) else {"tls": "off"}

    def _check_settings(self):
        if complaint := self._complaint_about(self.cluster.top):
            raise Unavailable(f"this build has no TLS ({complaint})")

    def _complaint_about(self, top):
        """What mirrorctl says of a configuration with these keys, if it is about them."""
        cluster = BenchCluster({VOLUME: {}}, top)
        try:
            said = cluster.alpha.ctl("check", check=False).err
        finally:
            cluster.close()
        # Without the file's name, which says nothing and is another one each time.
        return next((f"{key}: unknown key" for key in top if f"{key}: unknown key" in said), "")


class Express(Mirrordisk):
    name = "mirror-express"
    title = "mirrordisk express"
    note = "this project, through the engine's own socket"
    door = ".express.sock"


class MirrordiskTls(Mirrordisk):
    name = "mirror-tls"
    title = "mirrordisk, TLS"
    note = "this project, with TLS between the nodes"
    tls = True
    quick = False


class ExpressTls(Express):
    name = "mirror-express-tls"
    title = "mirrordisk express, TLS"
    note = "this project, through the engine's own socket, with TLS between the nodes"
    tls = True
    quick = False


class Ungrouped(Mirrordisk):
    name = "mirror-ungrouped"
    title = "mirrordisk, ungrouped peer"
    note = "this project with a peer that flushes once for each request: what grouping is worth"
    peer_program = "tests/bench/mirrord_ungrouped"
    only_jobs = ("flush-4k-qd16", "flush-4k-qd32", "fua-4k-qd16", "fua-4k-qd32")


TARGETS = (Mirrordisk, Express, MirrordiskTls, ExpressTls, Ungrouped)
