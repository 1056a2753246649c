# SPDX-License-Identifier: BSD-3-Clause
"""Runs in a guest: writes that must survive, each told on standard output once it is durable.

  load.py files DIR          files that are written, fsynced and renamed, and a log that is appended to
  load.py sqlite DIR         a row a transaction, WAL, synchronous=FULL
  load.py check-files DIR N  all up to N must be there, and nothing may be torn
  load.py check-sqlite DIR N
A load ends in order when its standard input does; its last line is the longest pause.
"""

import os
import pathlib
import random
import sqlite3
import struct
import sys
import threading
import time
import zlib

SLOTS = 48
RECORD = struct.Struct("<QI")


def content(number):
    draw = random.Random(number)
    body = draw.randbytes(draw.randrange(100, 20000))
    return RECORD.pack(number, zlib.crc32(body)) + body


def number_in(path):
    data = path.read_bytes()
    number, checksum = RECORD.unpack_from(data)
    if data != content(number):
        sys.exit(f"{path} is torn: it says {number}, checksum {checksum:08x}")
    return number


def sync_directory(directory):
    handle = os.open(directory, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


class Files:
    def __init__(self, directory):
        self._directory = directory
        self._log = open(directory / "log", "ab")
        self.first = self._log.tell() // 8 + 1

    def write(self, number):
        new = self._directory / "new"
        with open(new, "wb") as out:
            out.write(content(number))
            out.flush()
            os.fsync(out.fileno())
        new.rename(self._directory / f"slot-{number % SLOTS}")
        sync_directory(self._directory)
        self._log.write(struct.pack("<Q", number))
        self._log.flush()
        os.fdatasync(self._log.fileno())


class Rows:
    def __init__(self, directory):
        self._base = database(directory)
        self._base.execute("CREATE TABLE IF NOT EXISTS rows (n INTEGER PRIMARY KEY, body BLOB)")
        self.first = (self._base.execute("SELECT max(n) FROM rows").fetchone()[0] or 0) + 1

    def write(self, number):
        with self._base:
            self._base.execute("INSERT INTO rows VALUES (?, ?)", (number, content(number)))


def database(directory):
    base = sqlite3.connect(directory / "rows.sqlite")
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=FULL")
    return base


def run(load):
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    number, longest = load.first, 0.0
    while not over.is_set():
        began = time.monotonic()
        load.write(number)
        longest = max(longest, time.monotonic() - began)
        print(number, flush=True)
        number += 1
    print(f"longest {longest:.2f}", flush=True)


def check_files(directory, last):
    for number in range(max(1, last - SLOTS + 1), last + 1):
        path = directory / f"slot-{number % SLOTS}"
        found = number_in(path) if path.exists() else 0
        if found < number:
            sys.exit(f"{path} has {found}, {number} was durable")
    log = (directory / "log").read_bytes()
    for index in range(last):
        if log[index * 8:index * 8 + 8] != struct.pack("<Q", index + 1):
            sys.exit(f"the log has no {index + 1} of {last} that were durable")


def check_sqlite(directory, last):
    base = database(directory)
    if (found := base.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
        sys.exit(f"the database is damaged: {found}")
    rows = dict(base.execute("SELECT n, body FROM rows"))
    for number in range(1, last + 1):
        if rows.get(number) != content(number):
            sys.exit(f"row {number} of {last} that were committed is lost or damaged")


def main():
    directory = pathlib.Path(sys.argv[2])
    match sys.argv[1]:
        case "files":
            run(Files(directory))
        case "sqlite":
            run(Rows(directory))
        case "check-files":
            check_files(directory, int(sys.argv[3]))
        case "check-sqlite":
            check_sqlite(directory, int(sys.argv[3]))


main()
