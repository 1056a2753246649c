# SPDX-License-Identifier: BSD-3-Clause
"""Two guests, alpha and beta, with a network of their own and mirrordisk in both."""

import pathlib
import shutil
import socket
import subprocess
import tempfile

from guests.machine import Guest

ADDRESSES = {"alpha": "10.77.0.1", "beta": "10.77.0.2"}


class Pair:
    """`directory` is made; close() takes it away unless `keep` is set."""

    def __init__(self, directory=None, outlive=False, **options):
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="mirrordisk-kernel-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self.keep = False
        ports = self._ports()
        self.alpha, self.beta = self.nodes = tuple(
            Guest(name, self.directory / name, ADDRESSES[name], chosen, outlive=outlive,
                  **options)
            for name, chosen in (("alpha", ports), ("beta", ports[::-1])))

    def _ports(self):
        # The same for every process that joins this pair.
        kept = self.directory / "ports"
        if not kept.exists():
            kept.write_text(" ".join(map(str, free_udp_ports(2))), encoding="ascii")
        return [int(port) for port in kept.read_text(encoding="ascii").split()]

    def start(self):
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_up()
        return self

    def close(self):
        for node in self.nodes:
            if node.is_running():
                node.power_cut()
        if not self.keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def report(self):
        return "\n".join(node.report() for node in self.nodes)


def free_udp_ports(count):
    held = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    try:
        for probe in held:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in held]
    finally:
        for probe in held:
            probe.close()
