# SPDX-License-Identifier: BSD-3-Clause
"""Control requests sent as a peer would, or as a peer never would."""

import json

import nbd

from lib.node import Node


def dial(where, export="control"):
    """An export of a node over TCP, or at a socket's path."""
    handle = nbd.NBD()
    handle.set_export_name(export)
    if isinstance(where, Node):
        where.connect(handle)
    else:
        handle.connect_unix(str(where))
    return handle


def ask(where, request):
    """Sends one request to the `control` export of a node (or at a socket's path)."""
    handle = dial(where)
    try:
        return exchange(handle, json.dumps(request).encode())
    finally:
        handle.shutdown()


def exchange(handle, payload):
    """One request and its reply on an open mailbox."""
    handle.pwrite(payload + b"\0", 0)
    reply = bytes(handle.pread(256 * 1024, 0))
    return json.loads(reply.split(b"\0", 1)[0])
