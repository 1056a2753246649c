#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The example configuration passes the check that the programs make.

    check_example.py MIRRORCTL CONFIG

Whether a daemon runs on this machine does not matter: the configuration is judged before.
"""

import pathlib
import subprocess
import sys
import tempfile


def main():
    mirrorctl, config = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:  # of ours, whosever the project's folder is
        copy = pathlib.Path(folder) / "mirrordisk.toml"
        copy.touch(0o600)
        copy.write_bytes(pathlib.Path(config).read_bytes())
        done = subprocess.run([mirrorctl, "check", "--config", copy, "--node", "alpha"],
                              capture_output=True, text=True, check=False)
    if "no mistakes" in done.stdout:
        return 0
    print(done.stdout, done.stderr, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
