# SPDX-License-Identifier: BSD-3-Clause
"""Whoever reads the standard error of mirrord and its engine stops reading: a pager, Ctrl-S, a journal that
hangs. Lines may be lost; nobody waits."""

import fcntl
import os
import re
import subprocess

import nbd
import pytest

from lib import environment, tools

F_SETPIPE_SZ = 1031


class Pipe:
    """Takes a node's standard error, and is read when the test says so."""

    def __init__(self):
        self.reading, self.writing = os.pipe()
        fcntl.fcntl(self.writing, F_SETPIPE_SZ, 4096)

    def launch(self, node):
        command = [*node.prefix, str(node.program), "--config", str(node.config), "--node", node.name]
        node.daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.writing,
                                       stderr=self.writing, env=node.environment(),
                                       start_new_session=True)

    def fill(self):
        """As it is when its reader has stopped."""
        os.set_blocking(self.writing, False)
        try:
            while True:
                os.write(self.writing, b".")
        except BlockingIOError:
            os.set_blocking(self.writing, True)

    def read_some(self):
        return os.read(self.reading, 65536).decode(errors="replace")

    def close(self):
        os.close(self.reading)
        os.close(self.writing)


@pytest.mark.skipif(environment.sanitizer() != "", reason="reports go to standard error itself")
def test_who_does_not_read_the_log_holds_nobody(make_cluster):
    cluster = make_cluster()
    # Without it an engine has something to say before it is ready, too.
    tools.require_root("to run mirrord without a capability")
    cluster.alpha.prefix = ["setpriv", "--bounding-set=-sys_resource"]
    pipe = Pipe()
    pipe.launch(cluster.alpha)
    cluster.wait(cluster.alpha.answers, "mirrord of alpha to answer")
    cluster.beta.start()
    cluster.alpha.ctl("create", "r0")
    cluster.alpha.ctl("promote", "r0")
    cluster.wait_in_sync(cluster.alpha)
    pipe.fill()
    handle = nbd.NBD()
    handle.connect_unix(str(cluster.alpha.socket()))
    for number in range(3):
        cluster.beta.kill_everything()
        handle.pwrite(bytes([number + 1]) * 4096, 0)
        cluster.wait(lambda: cluster.alpha.state() == "broken", "the break")
        cluster.beta.start()
        cluster.wait_in_sync(cluster.alpha)
    # A client that is refused makes nbdkit itself write a line, from the thread that serves it.
    stranger = nbd.NBD()
    stranger.set_export_name("no-such-export")
    with pytest.raises(nbd.Error):
        stranger.connect_unix(str(cluster.alpha.socket_at("nbdkit")))
    cluster.alpha.ctl("disconnect", "r0")
    cluster.alpha.ctl("connect", "r0")
    cluster.wait_in_sync(cluster.alpha)
    handle.shutdown()
    cluster.alpha.kill_engine()
    cluster.wait_in_sync(cluster.alpha)

    text = ""
    while not re.search(r"nbdkit|engine started", text):
        text += pipe.read_some()
    cluster.alpha.ctl("demote", "r0")
    pipe.fill()
    assert cluster.alpha.stop() == 0
    pipe.close()
    cluster.assert_replicas_equal()
