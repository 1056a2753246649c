# SPDX-License-Identifier: BSD-3-Clause
"""Control requests sent as a peer would, or as a peer never would."""

import json

import nbd


def ask(address, request):
    """Sends one request to the `control` export at "HOST:PORT" (or a socket's path)."""
    handle = nbd.NBD()
    handle.set_export_name("control")
    if ":" in str(address):
        host, port = str(address).rsplit(":", 1)
        handle.connect_tcp(host, port)
    else:
        handle.connect_unix(str(address))
    try:
        return exchange(handle, json.dumps(request).encode())
    finally:
        handle.shutdown()


def exchange(handle, payload):
    """One request and its reply on an open mailbox."""
    handle.pwrite(payload + b"\0", 0)
    reply = bytes(handle.pread(256 * 1024, 0))
    return json.loads(reply.split(b"\0", 1)[0])
