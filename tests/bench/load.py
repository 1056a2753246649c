# SPDX-License-Identifier: BSD-3-Clause
"""Runs one load against one NBD server, and makes one sample of what the load program says."""

import json
import os
import subprocess

import nbd

import processors
from lib import environment, machine_time

PERCENTILES = ("50", "99", "99.9")


class LoadFailed(Exception):
    """The load program met an error: the server's, or its own."""


def fill(uri, directory, seed=1, part=100, block=4096):
    """The volume, by writes of `block` from its beginning to its end; of a `part` of it, at random
    places. Another seed writes other bytes."""
    how = ({"rw": "write"} if part == 100 else
           {"rw": "randwrite", "io_size": f"{part}%"})
    _fio(uri, directory, "free", [{"name": "fill", "bs": block, "iodepth": 16} | how],
         {"randseed": seed, "refill_buffers": 1})


def touch(uri, size):
    """One write to each MiB. What a program does at the first write to a place, such as noting it
    durably, happens once in minutes in a volume that is used; in a load of a second it would be a
    tenth of all."""
    handle = nbd.NBD()
    handle.connect_uri(uri)
    try:
        for offset in range(0, size, 1 << 20):
            handle.pwrite(os.urandom(4096), offset)
    finally:
        handle.shutdown()


def run(job, uri, seconds, seed, mode, directory):
    """{"value", "operations", "seconds", "load_cpu_seconds", "latency_us"} of one run."""
    if job.fio:
        jobs = [{"name": "load"} | part for part in job.fio]
        return from_fio(job, _fio(uri, directory, mode, jobs, fio_options(seconds, seed),
                                  120 + 10 * seconds))
    return _from_nbd_load(job, _nbd_load(job, uri, seconds, seed, mode))


def fio_options(seconds, seed):
    """Those of every load that runs for a time."""
    # Two writes to one block at the same time have no order: QEMU's quorum then leaves its copies
    # different, and the comparison could not tell that from a lost write.
    return {"serialize_overlap": 1, "time_based": 1, "runtime": f"{round(seconds * 1000)}ms",
            "norandommap": 1, "randseed": seed, "percentile_list": ":".join(PERCENTILES)}


def fio_words(shared, jobs):
    """The name begins a new job; what comes before the first one is true of all."""
    words = [f"--{key}={value}" for key, value in shared.items()]
    for job in jobs:
        words += [f"--name={job['name']}",
                  *(f"--{key}={value}" for key, value in job.items() if key != "name")]
    return words


def _run(command, mode, limit, **options):
    def place():
        os.sched_setaffinity(0, processors.MODES[mode])
    try:
        done = machine_time.run(command, limit, preexec_fn=place, stdin=subprocess.DEVNULL,
                                **options)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"{command[0]} did not end within {limit:.0f} s") from None
    if done.returncode != 0:
        raise LoadFailed(f"{' '.join(map(str, command))}: exit code {done.returncode}\n"
                         f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def _fio(uri, directory, mode, jobs, options, limit=600):
    shared = {"output-format": "json", "ioengine": "nbd", "uri": uri} | options
    text = _run(["fio", *fio_words(shared, jobs)], mode, limit, cwd=directory)
    found = json.loads(text[text.index("{"):])["jobs"]
    if errors := [job["error"] for job in found if job["error"]]:
        raise LoadFailed(f"fio: error {errors[0]}\n{text[-2000:]}")
    return found


def from_fio(job, found):
    """A sample of what fio says of its jobs."""
    sides = [entry[side] for entry in found for side in ("read", "write")]
    first = found[0]
    seconds = max(side["runtime"] for side in sides) / 1000
    if job.name == "database":
        operations, latency = first["write"]["total_ios"], first["sync"]["lat_ns"]
        value = operations / seconds
    else:
        operations = sum(side["total_ios"] for side in sides)
        # Of a mixed load the writes: they are what replication makes slower.
        latency = first["write" if first["write"]["total_ios"] else "read"]["clat_ns"]
        value = (sum(side["io_bytes"] for side in sides) / seconds / 1e6
                 if job.figure == "bytes" else operations / seconds)
    cpu = sum((entry["usr_cpu"] + entry["sys_cpu"]) / 100 * entry["job_runtime"] / 1000
              for entry in found)
    return {"value": value, "operations": sum(side["total_ios"] for side in sides),
            "seconds": seconds, "load_cpu_seconds": cpu,
            "latency_us": _microseconds({key.rstrip("0").rstrip("."): value for key, value
                                         in latency.get("percentile", {}).items()})}


def _nbd_load(job, uri, seconds, seed, mode):
    program = environment.BUILD / "tests" / "bench" / "nbd_load"
    return json.loads(_run([str(program), "--uri", uri, "--depth", str(job.depth), "--seconds",
                            str(seconds), "--seed", str(seed), "--durability", job.durability],
                           mode, 120 + 10 * seconds))


def _from_nbd_load(_, found):
    return {"value": found["operations"] / found["seconds"], "operations": found["operations"],
            "seconds": found["seconds"], "load_cpu_seconds": found["cpu_seconds"],
            "latency_us": _microseconds(found["latency_ns"])}


def _microseconds(percentiles):
    return {key: percentiles[key] / 1000 for key in PERCENTILES if key in percentiles}
