# SPDX-License-Identifier: BSD-3-Clause
"""What processes cost while nobody uses them: wake-ups, processor time, threads."""

import collections
import os
import pathlib
import sys
import time

_TICKS = os.sysconf("SC_CLK_TCK")


class Idle:
    """What some processes did in a window. Threads that ended in it are left out.

    wakeups    how often a thread had slept, and was woken
    processor  share of one processor, in %
    by_thread  (label, name of the thread) → wake-ups a second
    """

    def __init__(self, processes, seconds):
        self.seconds = seconds
        before, used = _switches(processes), _used(processes)
        time.sleep(seconds)
        after = _switches(processes)
        self.processor = 100 * (_used(processes) - used) / _TICKS / seconds
        self.by_thread = collections.Counter()
        for thread, (label, name, count) in after.items():
            woken = count - before[thread][2] if thread in before else count
            self.by_thread[(label, name)] += woken / seconds
        self.wakeups = sum(self.by_thread.values())

    def table(self):
        lines = [f"{self.wakeups:.1f} wake-ups a second, {self.processor:.2f} % of a processor"]
        for (label, name), rate in self.by_thread.most_common():
            lines.append(f"  {rate:6.2f}  {label}: {name}")
        return "\n".join(lines)


def processes_of(cluster):
    """pid → label, of mirrord and the engines of both nodes."""
    found = {}
    for node in cluster.nodes:
        found[node.daemon.pid] = f"mirrord of {node.name}"
        for volume in cluster.volumes:
            if pid := node.engine_pid(volume):
                found[pid] = "engines"
    return found


def threads_of(pid):
    """Names of its threads."""
    return [name for _, name in _threads(pid)]


def _threads(pid):
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        try:
            yield task, (task / "comm").read_text(encoding="utf-8").strip()
        except OSError:  # it has just ended
            pass


def _switches(processes):
    found = {}
    for pid, label in processes.items():
        for task, name in _threads(pid):
            try:
                status = (task / "status").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            count = status.split("\nvoluntary_ctxt_switches:")[1].split()[0]
            found[task] = (label, name, int(count))
    return found


def _used(processes):
    total = 0
    for pid in processes:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total


def main():
    """Figures of this build: python3 -m lib.idle VOLUMES SECONDS [PEER_TIMEOUT]."""
    from lib.cluster import Cluster  # pylint: disable=import-outside-toplevel
    volumes, seconds = int(sys.argv[1]), float(sys.argv[2])
    timeout = sys.argv[3] if len(sys.argv) > 3 else "5s"
    wanted = {f"r{number}": {"peer_timeout": timeout} for number in range(volumes)}
    with Cluster(wanted) as cluster:
        cluster.start()
        for name in wanted:
            cluster.alpha.ctl("create", name)
            cluster.alpha.ctl("promote", name)
        for name in wanted:
            cluster.wait_in_sync(cluster.alpha, name)
        time.sleep(12)  # threads that were busy a moment ago stay for ten seconds
        processes = processes_of(cluster)
        print(f"{volumes} volumes, peer_timeout {timeout}:", Idle(processes, seconds).table())
        for pid, label in processes.items():
            print(f"  {label}: {len(threads_of(pid))} threads")


if __name__ == "__main__":
    main()
