# SPDX-License-Identifier: BSD-3-Clause
"""The files on the volume: documents with checksums, and a database whose commits are counted."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys

from machine import wait_until

DOCUMENTS = pathlib.Path("/usr/share/doc")
LIMIT = 48 * 1024 * 1024
FEWEST = 200


def copy_documents(target):
    """Copies until LIMIT bytes; returns (files, bytes)."""
    files = total = 0
    for directory, names, entries in os.walk(DOCUMENTS):
        names.sort()
        place = target / pathlib.Path(directory).relative_to(DOCUMENTS)
        for name in sorted(entries):
            source = pathlib.Path(directory) / name
            if source.is_symlink() or not source.is_file():
                continue
            if total + source.stat().st_size > LIMIT:
                continue
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place / name)
            files += 1
            total += source.stat().st_size
    # A minimal image has no documents.
    for number in range(max(0, FEWEST - files)):
        target.mkdir(exist_ok=True)
        data = os.urandom(20000)
        (target / f"random-{number}").write_bytes(data)
        files += 1
        total += len(data)
    return files, total


def checksums(directory):
    """Relative path → SHA-256 of every file."""
    found = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(directory))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def differing(expected, found):
    return sorted(name for name in expected.keys() | found.keys()
                  if expected.get(name) != found.get(name))


class Database:
    """A program on a machine that commits one row after the other, until its machine dies.

    Each acknowledged commit is written to `journal`, outside of the volume: what must be there
    afterwards.
    """

    def __init__(self, machine, path):
        self.path = path
        self.journal = machine.directory / "commits"
        self._output = open(self.journal, "w+b")
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(path)], stdin=subprocess.DEVNULL, stdout=self._output,
            env=machine.environment(), start_new_session=True)

    def wait_commits(self, count):
        goal = self.acknowledged() + count
        wait_until(lambda: self.acknowledged() >= goal, f"{count} commits")

    def acknowledged(self):
        """The last row whose commit was reported."""
        return self.journal.read_bytes().count(b"\n")

    def end(self):
        self._process.kill()
        self._process.wait()
        self._output.close()


def rows(path):
    """The rows of a database that is all right; raises if it is not."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        return connection.execute("SELECT count(*) FROM ledger").fetchone()[0]


def commit_forever(path):
    connection = sqlite3.connect(path, isolation_level=None)
    # FULL does not sync the directory after the journal was removed, and that removal is the commit:
    # a crash right after it may bring the journal back, which undoes the commit (sqlite.org,
    # "PRAGMA synchronous").
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("CREATE TABLE IF NOT EXISTS ledger (entry INTEGER PRIMARY KEY, data BLOB)")
    while True:
        connection.execute("INSERT INTO ledger (data) VALUES (randomblob(900))")
        # The commit is durable now; only then it is reported.
        os.write(sys.stdout.fileno(), b"committed\n")


if __name__ == "__main__":
    commit_forever(sys.argv[1])
