# SPDX-License-Identifier: BSD-3-Clause
"""The comparison in two virtual machines: a real kernel client, and DRBD and md beside it. Without
KVM a guest is many times slower than the machine, so here too only ratios mean something."""

import json
import random
import sys

from guests import image, products
from guests.pair import Pair
from jobs import KIB, MIB, Job

import guest_targets
import load
from target import Unavailable

MODE = "guests"


def _job(name, title, depth, block, kind, **options):
    bulk = {"figure": "bytes", "unit": "MB/s"} if block >= 64 * KIB else {}
    rested = options.pop("rested", False)
    return Job(f"guest-{name}", title, "guests", **bulk, rested=rested,
               fio=({"rw": kind, "bs": block, "iodepth": depth} | options,))


JOBS = (
    _job("randwrite-4k-qd1", "4 KiB random write, depth 1", 1, 4 * KIB, "randwrite"),
    _job("randwrite-rested-4k-qd1", "4 KiB random write, depth 1, first seconds after a rest", 1,
         4 * KIB, "randwrite", rested=True),
    _job("randwrite-4k-qd16", "4 KiB random write, depth 16", 16, 4 * KIB, "randwrite"),
    _job("flush-4k-qd1", "4 KiB random write and fdatasync after each, 1 writer", 1, 4 * KIB,
         "randwrite", fdatasync=1),
    _job("write-1m-qd4", "1 MiB random write, depth 4", 4, MIB, "randwrite"),
    _job("read-4k-qd16", "4 KiB random read, depth 16", 16, 4 * KIB, "randread"),
    _job("mixed-4k-qd16", "4 KiB, 70 % reads and 30 % writes, depth 16", 16, 4 * KIB, "randrw",
         rwmixread=70),
    Job("guest-switch-idle", "switch of an idle volume to the other node, /dev/nbd0 attached",
        "guests", figure="seconds", unit="s", less_is_better=True),
)
# One write to each MiB, as load.touch().
TOUCH = {"name": "touch", "rw": f"write:{MIB - 4 * KIB}", "bs": 4 * KIB, "iodepth": 16,
         "number_ios": guest_targets.SIZE // MIB}
# Two guests up and filled; a load's program started; rests and replicas read: on two processors
# without KVM.
START_SECONDS = 120
LOAD_SECONDS = 1
CHECK_SECONDS = 25


def why_not():
    return image.why_not()


class GuestRunner:
    """As Runner: run() leaves samples, skipped and broken."""

    def __init__(self, rounds, seconds, seed, say):
        self._rounds = rounds
        self._seconds = seconds
        self._random = random.Random(seed)
        self._say = say
        self.samples = []
        self.skipped = {}
        self.broken = []

    def expected_seconds(self):
        """Roughly."""
        loads = len(guest_targets.TARGETS) * sum(job.is_load for job in JOBS)
        return START_SECONDS + self._rounds * (
            loads * (self._seconds + LOAD_SECONDS) + CHECK_SECONDS)

    def run(self):
        if reason := why_not():
            self.skipped["guests"] = reason
            self._say(f"skipped: guests: {reason}")
            return
        self._say("starting two virtual machines")
        # Emulated processors that wake each other, and an emulated clock, cost more than what is
        # measured; a clock that goes too fast or too slow does so for all targets.
        pair = Pair(packages=guest_targets.PACKAGES, spares=guest_targets.DISKS, memory=512,
                    processors=1, clock="quick")
        try:
            pair.start()
            for node in pair.nodes:
                products.install(node)
            self._measure_all(self._start_targets(pair))
        except Exception as error:  # pylint: disable=broad-except
            self._report("guests", error)
            print(pair.report(), file=sys.stderr)
        finally:
            pair.close()

    def _start_targets(self, pair):
        ready = []
        for kind in guest_targets.TARGETS:
            self._say(f"starting {kind.title}")
            try:
                target = kind(pair)
                target.start()
                self._fill(target)
                ready.append(target)
            except Unavailable as reason:
                self.skipped[kind.name] = str(reason)
            except Exception as error:  # pylint: disable=broad-except
                self._report(f"{kind.name} in guests could not be started", error)
        return ready

    def _measure_all(self, ready):
        for number in range(self._rounds):
            for job in JOBS:
                if job.is_load:
                    self._compare(ready, number, job)
                else:
                    self._switch(ready, number, job)
            self._check_equal(ready)

    def _compare(self, ready, number, job):
        order = list(ready)
        self._random.shuffle(order)
        figures = []
        for target in order:
            try:
                sample = self._measure(target, job)
            except Exception as error:  # pylint: disable=broad-except
                self._report(f"{job.name} on {target.name}", error)
                ready.remove(target)
                continue
            figures.append(self._keep(number, job, target, sample))
        self._progress(number, job, figures)

    def _switch(self, ready, number, job):
        for target in [target for target in ready if hasattr(target, "switch")]:
            try:
                figure = self._keep(number, job, target, {"value": target.switch()})
                self._progress(number, job, [figure])
            except Exception as error:  # pylint: disable=broad-except
                self._report(f"{job.name} on {target.name}", error)
                ready.remove(target)

    def _keep(self, number, job, target, sample):
        self.samples.append({"mode": MODE, "job": job.name, "target": target.name,
                             "round": number} | sample)
        return f"{target.name} {sample['value']:.3g}"

    def _progress(self, number, job, figures):
        self._say(f"guests {number + 1}/{self._rounds} {job.name} ({job.unit}): "
                  + ", ".join(sorted(figures)))

    def _check_equal(self, ready):
        for target in [target for target in ready if target.replicates]:
            try:
                sums = target.sums()
                if len(set(sums)) != 1:
                    raise load.LoadFailed(f"the replicas differ: {sums}")
            except Exception as error:  # pylint: disable=broad-except
                self._report(target.name, error)
                ready.remove(target)

    def _measure(self, target, job):
        options = load.fio_options(self._seconds, self._random.randrange(2**31))
        jobs = [{"name": "load", "stonewall": 1} | options | job.fio[0]]
        if job.rested:
            target.rest()
        else:
            jobs.insert(0, TOUCH)
        found = self._fio(target, jobs)
        target.was_used()
        sample = load.from_fio(job, found[-1:])
        sample.pop("load_cpu_seconds")
        return sample

    def _fill(self, target):
        self._fio(target, [{"name": "fill", "rw": "write", "bs": MIB, "iodepth": 4,
                            "refill_buffers": 1}])

    def _fio(self, target, jobs):
        shared = {"output-format": "json", "ioengine": "libaio", "direct": 1,
                  "filename": target.device, "size": guest_targets.SIZE}
        command = ["fio", *load.fio_words(shared, jobs)]
        text = target.alpha.out(" ".join(command), timeout=300 + 10 * self._seconds)
        return json.loads(text[text.index("{"):])["jobs"]

    def _report(self, what, error):
        self.broken.append(f"{what}: {str(error).strip() or type(error).__name__}")
        print(f"broken: {self.broken[-1]}", file=sys.stderr)
