# SPDX-License-Identifier: BSD-3-Clause
"""Other users of this machine: nodes that run without root, and strangers at their sockets."""

import grp
import os

import pytest

from lib import environment, tools

NOBODY = 65534    # whom the nodes run as
STRANGER = 65533  # somebody else; needs no entry in passwd


def acting_as(uid, *groups):
    """The words to start a program through, so that it is this user's; only members' groups."""
    tools.require_root("to become another user")
    tools.require_tool("setpriv")
    wanted = [f"--groups={','.join(map(str, groups))}"] if groups else ["--clear-groups"]
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", *wanted, "--"]


def a_group():
    """A group of this machine, not root's nor that of nobody, as its entry."""
    found = [entry for entry in grp.getgrall() if 0 < entry.gr_gid < 1000]
    if not found:
        pytest.skip("this machine has no groups")
    return found[-1]


def let_others_reach(cluster):
    """Strangers come as far as the modes of the nodes' own directories let them."""
    os.chmod(cluster.directory, 0o711)


def hand_over(cluster, *groups):
    """The nodes are nobody's from now on: directories, mirrord, engines and mirrorctl. Before start()."""
    let_others_reach(cluster)
    prefix = acting_as(NOBODY, *groups)
    if tools.run(*prefix, "test", "-x", environment.MIRRORD, check=False).returncode != 0:
        pytest.skip(f"{environment.MIRRORD} is where only its owner can run it")
    for node in cluster.nodes:
        node.prefix = node.ctl_prefix = prefix
        for path in (node.directory, *node.directory.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    return prefix
