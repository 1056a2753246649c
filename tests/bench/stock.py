# SPDX-License-Identifier: BSD-3-Clause
"""What this project is compared with: servers that everybody has, each over loopback."""

import json
import shutil
import socket

import jobs
from lib import credentials, environment
from lib.waiting import accepts

from target import Target, Unavailable

KEY_NAME = "bench"


def _require(program):
    if shutil.which(program, path="/usr/bin:/bin:/usr/sbin:/sbin") is None:
        raise Unavailable(f"{program} is not installed")


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Stock(Target):
    """With a socket for clients, and perhaps a remote file behind `nbdkit file` on a TCP port."""

    tls = False

    @property
    def key_file(self):
        """Under the name that QEMU wants."""
        path = self.directory / "keys.psk"
        if not path.exists():
            credentials.write_key(path, KEY_NAME)
        return path

    @property
    def socket(self):
        return self.directory / "volume.sock"

    def start_remote(self, name="remote.img"):
        """The port of an nbdkit that serves a file of its own."""
        _require("nbdkit")
        port = environment.free_ports(1)[0]
        secured = []
        if self.tls:
            secured = ["--tls=require", f"--tls-psk={self.key_file}"]
        self.spawn("nbdkit", "-f", "-i", "127.0.0.1", "-p", port, *secured, "file",
                   self.make_file(name))
        self.wait_for(lambda: _listens(port), "nbdkit to listen")
        return port

    def serve(self, *command, export=""):
        self.spawn(*command)
        self.wait_for(lambda: accepts(self.socket), f"{command[0]} to listen")
        self.uri = f"nbd+unix:///{export}?socket={self.socket}"


class File(Stock):
    name = "file"
    title = "nbdkit file"
    quick = True
    note = "no replication: the limit of what any mirror behind nbdkit can reach"

    def start(self):
        _require("nbdkit")
        self.serve("nbdkit", "-f", "-U", self.socket, "file", self.make_file("local.img"))


class Proxy(Stock):
    name = "proxy"
    title = "nbdkit nbd"
    note = "a proxy to a remote `nbdkit file`: one copy, on the other side"

    def start(self):
        port = self.start_remote()
        secured = []
        if self.tls:
            secured = ["tls=require", f"tls-psk={self.key_file}", f"tls-username={KEY_NAME}"]
        self.serve("nbdkit", "-f", "-U", self.socket, "nbd", "hostname=127.0.0.1",
                   f"port={port}", *secured)


class ProxyTls(Proxy):
    name = "proxy-tls"
    title = "nbdkit nbd, TLS"
    note = "the same with TLS (a pre-shared key; nbdkit and QEMU choose the cipher)"
    tls = True
    only_jobs = jobs.ENCRYPTED


class Qemu(Stock):
    """qemu-storage-daemon with a local file and a remote one; a subclass joins the two nodes."""

    replicates = True

    def storage_daemon(self, *options, export):
        _require("qemu-storage-daemon")
        port = self.start_remote()
        secrets, remote = [], ""
        if self.tls:
            secrets = ["--object", f"tls-creds-psk,id=tls0,endpoint=client,dir={self.directory},"
                                   f"username={KEY_NAME}"]
            remote = ",tls-creds=tls0"
        self.serve("qemu-storage-daemon", *secrets, "--blockdev",
                   f"driver=file,node-name=local,filename={self.make_file('local.img')}",
                   "--blockdev", "driver=nbd,node-name=remote,server.type=inet,"
                                 f"server.host=127.0.0.1,server.port={port}{remote}",
                   *options, "--nbd-server", f"addr.type=unix,addr.path={self.socket}",
                   "--export", f"type=nbd,id=export,node-name={export},name=volume,writable=on",
                   export="volume")


class Quorum(Qemu):
    name = "quorum"
    title = "qemu quorum"
    quick = True
    note = ("both children must take a write; no resync, no memory of what differs, no order of "
            "writes that overlap in flight")

    def start(self):
        self.storage_daemon("--blockdev",
                            "driver=quorum,node-name=both,vote-threshold=2,read-pattern=fifo,"
                            "children.0=local,children.1=remote", export="both")


class QuorumTls(Quorum):
    name = "quorum-tls"
    title = "qemu quorum, TLS"
    note = "the same with TLS to the remote child"
    tls = True
    quick = False
    only_jobs = jobs.ENCRYPTED


class BlockdevMirror(Qemu):
    name = "qemu-mirror"
    title = "qemu blockdev-mirror"
    note = ("copy-mode write-blocking; it does not flush the target when a client flushes, so its "
            "durable writes are a weaker promise")

    def start(self):
        monitor = self.directory / "qmp.sock"
        self.storage_daemon("--chardev", f"socket,id=qmp,path={monitor},server=on,wait=off",
                            "--monitor", "chardev=qmp,mode=control", export="local")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(str(monitor))
            self._mirror(connection.makefile("rw", encoding="utf-8"))

    def _mirror(self, lines):
        def say(what, **arguments):
            lines.write(json.dumps({"execute": what, "arguments": arguments}) + "\n")
            lines.flush()

        say("qmp_capabilities")
        say("blockdev-mirror", **{"job-id": "job", "device": "local", "target": "remote",
                                  "sync": "full", "copy-mode": "write-blocking"})
        for line in lines:
            message = json.loads(line)
            if "error" in message:
                raise RuntimeError(f"qemu-storage-daemon: {message['error']['desc']}")
            if message.get("event") == "BLOCK_JOB_READY":
                return
        raise RuntimeError("qemu-storage-daemon closed its monitor")


TARGETS = (File, Proxy, ProxyTls, Quorum, QuorumTls, BlockdevMirror)
