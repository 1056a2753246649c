# SPDX-License-Identifier: BSD-3-Clause
"""Finding and ending the processes of one test, and no others."""

import os
import pathlib
import signal
import time

from lib import machine_time


def is_alive(pid):
    """Whether the process runs; a zombie does not."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in ("Z", "X")


def read_pid(path, marker):
    """The pid in a pid file whose process is alive, else None."""
    try:
        pid = int(pathlib.Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    # A busy machine gives a dead process's pid to somebody else within seconds.
    return pid if is_alive(pid) and has_marker(pid, marker) else None


def has_marker(pid, marker):
    """Whether the process has `marker` as MIRRORDISK_TEST in its environment."""
    try:
        variables = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"MIRRORDISK_TEST={marker}".encode() in variables


def send(pid, signal_number):
    try:
        os.kill(pid, signal_number)
    except ProcessLookupError:
        pass


def wait_gone(pid, timeout=20.0):
    deadline = machine_time.now() + timeout
    while is_alive(pid):
        if machine_time.now() > deadline:
            raise AssertionError(f"process {pid} is still there after {timeout:.0f} s")
        time.sleep(0.01)


def kill_hard(pid):
    send(pid, signal.SIGKILL)
    wait_gone(pid)


def marked(marker):
    """The live processes that have `marker` as MIRRORDISK_TEST in their environment."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if has_marker(pid, marker) and is_alive(pid)]


def kill_marked(marker):
    """Ends all of them, also those that they start meanwhile."""
    for _ in range(100):
        pids = marked(marker)
        if not pids:
            return
        for pid in pids:
            send(pid, signal.SIGKILL)
        time.sleep(0.02)
    raise AssertionError(f"processes that do not die: {marked(marker)}")


def open_files(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def status_field(pid, name):
    """A number of /proc/PID/status, such as VmRSS (kB) or Threads."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0])
    raise KeyError(name)


def waits_for_disk(pid):
    """Whether a thread of it is in uninterruptible sleep."""
    for stat in pathlib.Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "D":
                return True
        except OSError:  # it has just ended
            pass
    return False
