# SPDX-License-Identifier: BSD-3-Clause
"""A network between two nodes that can lose packets: no proxy answers in a dead machine's place."""

import pytest

from lib import tools


def _inside(name):
    # `ip -n` and `ip netns exec` change mounts, too, which fails where / is no mount point.
    return ["nsenter", f"--net=/run/netns/{name}"]


def _ip_in(name, *words):
    tools.run(*_inside(name), "ip", *words)


class Namespaces:
    """alpha and beta on machines of their own, joined by a cable that can lose everything."""

    def __init__(self, cluster):
        tools.require_root("makes network namespaces")
        tools.require_tool("ip", "nsenter")
        self.cluster = cluster
        self.names = {node.name: f"md-{cluster.marker[:6]}-{node.name[0]}"
                      for node in cluster.nodes}
        for number, (node, name) in enumerate(zip(cluster.nodes, self.names.values()), 1):
            made = tools.run("ip", "netns", "add", name, check=False)
            if made.returncode != 0:
                pytest.skip(f"no network namespaces here: {made.stderr}")
            node.address = f"10.99.0.{number}:10809"
            node.prefix = _inside(name)
        first, second = self.names.values()
        tools.run("ip", "link", "add", "link0", "netns", first, "type", "veth", "peer", "name",
                  "link0", "netns", second)
        for number, name in enumerate((first, second), 1):
            _ip_in(name, "addr", "add", f"10.99.0.{number}/24", "dev", "link0")
            _ip_in(name, "link", "set", "lo", "up")
            _ip_in(name, "link", "set", "link0", "up")
        cluster.write_config()

    def drop_packets(self):
        """Everything is sent to an address that nobody has: no reset, no error, no answer."""
        for number, name in enumerate(self.names.values(), 1):
            _ip_in(name, "neigh", "replace", f"10.99.0.{3 - number}", "lladdr",
                   "02:00:00:00:00:99", "dev", "link0", "nud", "permanent")

    def heal(self):
        for number, name in enumerate(self.names.values(), 1):
            _ip_in(name, "neigh", "del", f"10.99.0.{3 - number}", "dev", "link0")

    def close(self):
        for name in self.names.values():
            tools.run("ip", "netns", "del", name, check=False)
