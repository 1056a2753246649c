# SPDX-License-Identifier: BSD-3-Clause
"""The stock NBD clients, and the reasons for which a test is skipped."""

import json
import os
import shutil

import pytest

from lib import credentials, environment, machine_time


def require_tool(*names):
    for name in names:
        if shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin") is None:
            pytest.skip(f"{name} is not installed")


def require_root(why):
    if os.geteuid() != 0:
        pytest.skip(f"needs root: {why}")


def run(*command, timeout=120, check=True, **options):
    done = machine_time.run([str(word) for word in command], timeout * environment.slowness(),
                            errors="replace",  # nbdinfo shows what file(1) makes of the content
                            **options)
    if check and done.returncode != 0:
        raise AssertionError(f"$ {' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
                             f"[exit code {done.returncode}]")
    return done


def nbdinfo(uri):
    """The first export as nbdinfo --json describes it."""
    require_tool("nbdinfo")
    return json.loads(run("nbdinfo", "--json", uri).stdout)["exports"][0]


def nbdcopy(source, target, *options):
    require_tool("nbdcopy")
    return run("nbdcopy", *options, source, target)


def qemu_io(uri, *commands, check=True):
    """Runs the commands in one qemu-io; its exit code is 1 if one of them failed."""
    require_tool("qemu-io")
    words = [word for command in commands for word in ("-c", command)]
    with credentials.for_qemu(uri) as secret:
        return run("qemu-io", *secret, *words, "--image-opts", credentials.image_options(uri),
                   check=check)


def qemu_compare(left, right):
    require_tool("qemu-img")
    sides = [credentials.image_options(side) for side in (left, right)]
    with credentials.for_qemu(left, right) as secret:
        return run("qemu-img", "compare", *secret, "--image-opts", *sides)


def fio_verify(uri, directory, size="32m", seconds=5, depth=16, **extra):
    """Random writes with a checksum in each block, all read back; raises on a mismatch."""
    require_tool("fio")
    keys = {"name": "verify", "ioengine": "nbd", "uri": uri, "rw": "randwrite", "bs": "4k",
            "size": size, "iodepth": depth, "verify": "crc32c", "verify_backlog": 1024,
            "time_based": 1, "runtime": seconds, "verify_fatal": 1} | extra
    return run("fio", *(f"--{key}={value}" for key, value in keys.items()), cwd=directory,
               timeout=120)
