# SPDX-License-Identifier: BSD-3-Clause
"""A pre-shared key for the targets that speak TLS; made for one run, in its directory."""

import os
import secrets

PSK_USER = "mirrordisk"


def write_psk(directory):
    """A file as psktool writes it, under the name that QEMU wants; returns its path."""
    path = directory / "keys.psk"
    if not path.exists():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w",
                  encoding="ascii") as file:
            file.write(f"{PSK_USER}:{secrets.token_hex(32)}\n")
    return path
