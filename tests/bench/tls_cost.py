#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What encryption costs: mirrors with tls = "off", "psk" and "x509" on this machine, in turns.

tests/bench/tls_cost.py [--rounds N] [--seconds S]. Each round measures all of them in a new order, so
that what else the machine does falls on all alike. Prints medians with ranges of the ratios to
"off" in the same round; absolute figures only for orientation. Both nodes, the load and the
encryption of both ends share this machine's processors: on two machines each pays half.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from lib.cluster import Cluster  # noqa: E402

KINDS = ("off", "psk", "x509")
# name: fio's options, what is compared
JOBS = {
    "4 KiB writes, depth 1": (["--bs=4k", "--iodepth=1"], "latency"),
    "4 KiB writes, depth 16": (["--bs=4k", "--iodepth=16"], "rate"),
    "1 MiB writes, depth 4": (["--bs=1m", "--iodepth=4"], "rate"),
}


def measure(cluster, options, seconds):
    """(operations a second, median latency in microseconds)"""
    done = subprocess.run(
        ["fio", "--name=load", "--ioengine=nbd", f"--uri={cluster.alpha.uri()}", "--rw=randwrite",
         "--size=64m", "--time_based=1", f"--runtime={seconds}", "--output-format=json", *options],
        check=True, capture_output=True, text=True)
    write = json.loads(done.stdout[done.stdout.index("{"):])["jobs"][0]["write"]
    return write["iops"], write["clat_ns"]["percentile"]["50.000000"] / 1000


def spread(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2)
    options = parser.parse_args()
    clusters = {kind: Cluster(tls=kind).start_active() for kind in KINDS}
    figures = {job: {kind: [] for kind in KINDS} for job in JOBS}
    try:
        for cluster in clusters.values():
            measure(cluster, ["--bs=1m", "--iodepth=4"], 1)  # pages and intents are there
        for _ in range(options.rounds):
            for job, (words, _) in JOBS.items():
                for kind in random.sample(KINDS, len(KINDS)):
                    figures[job][kind].append(measure(clusters[kind], words, options.seconds))
        for cluster in clusters.values():
            cluster.wait_in_sync(cluster.alpha)
            cluster.alpha.ctl("demote", "r0")
            cluster.assert_replicas_equal()
    finally:
        for cluster in clusters.values():
            cluster.close()
    print("| job | compared | psk to off | x509 to off | off, for orientation |\n|---|---|---|---|---|")
    for job, (_, what) in JOBS.items():
        index = 1 if what == "latency" else 0
        off = [each[index] for each in figures[job]["off"]]
        ratios = [spread([each[index] / base for each, base in zip(figures[job][kind], off)])
                  for kind in ("psk", "x509")]
        unit = "µs" if what == "latency" else "/s"
        print(f"| {job} | {what} | {ratios[0]} | {ratios[1]} | {statistics.median(off):.0f} {unit} |")


if __name__ == "__main__":
    main()
