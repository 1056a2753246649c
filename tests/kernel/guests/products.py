# SPDX-License-Identifier: BSD-3-Clause
"""What is installed in the guests: the packages where they were built, else a build's files."""

import concurrent.futures
import functools
import io
import os
import pathlib
import re
import subprocess
import tarfile
import tempfile

from lib import environment

WHERE = "/root/packages"


def packages():
    """The .deb files under test; MIRRORDISK_PACKAGES is the directory that has them."""
    given = os.environ.get("MIRRORDISK_PACKAGES")
    return sorted(pathlib.Path(given).glob("*.deb")) if given else []


def newer_packages(directory):
    """The same packages with a later version, made in `directory`."""
    return [_repacked(file, pathlib.Path(directory)) for file in packages()]


def _repacked(file, directory):
    tree = directory / file.stem
    subprocess.run(["dpkg-deb", "-R", file, tree], check=True)
    control = tree / "DEBIAN" / "control"
    text = control.read_text(encoding="utf-8")
    version = re.search(r"^Version: (.*)$", text, re.MULTILINE)[1]
    # Where one of the packages depends on this version of another, too.
    control.write_text(re.sub(rf"(?<=[ ]){re.escape(version)}(?=[\n)])", version + "+later", text),
                       encoding="utf-8")
    newer = directory / file.name
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, newer], check=True,
                   stdout=subprocess.DEVNULL)
    return newer


def install_on(guests):
    """At the same time: each guest has one of the host's processors."""
    if not packages():
        built_files()  # once, for all of them
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(install, guests))


def install(guest):
    if packages():
        put_packages(guest, packages())
        guest.run(f"dpkg -i {WHERE}/*.deb", timeout=180)
    else:
        install_build(guest, built_files())


def put_packages(guest, files):
    """In WHERE, and nothing else there."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for file in files:
            tar.add(file, arcname=file.name)
    guest.run(f"rm -rf {WHERE}")
    guest.unpack(archive.getvalue(), WHERE)


@functools.lru_cache(maxsize=None)
def built_files(build=None):
    """What `meson install` of a build directory puts where, as a tar archive."""
    build = pathlib.Path(build or environment.BUILD)
    with tempfile.TemporaryDirectory(prefix="mirrordisk-files-") as files:
        done = subprocess.run(
            ["/usr/bin/meson", "install", "-C", build, "--destdir", files, "--no-rebuild",
             "--strip", "--quiet"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"meson install of {build} failed:\n{done.stdout}{done.stderr}")
        os.chmod(files, 0o755)  # it becomes the guest's /
        return subprocess.run(["tar", "c", "--owner=0", "--group=0", "-C", files, "."],
                              capture_output=True, check=True).stdout


def install_build(guest, files):
    guest.unpack(files)
    guest.run("systemctl daemon-reload")
