# SPDX-License-Identifier: BSD-3-Clause
"""The order of a run: rounds, in each of them every job, for each job the targets in an order of
their own. So the targets of one comparison are measured within one short time."""

import contextlib
import itertools
import random
import sys
import time
import traceback

import load
import processors
from resync import Resync
from target import Unavailable

# What is not the load itself: files evicted and read, programs started, replicas compared.
LOAD_SECONDS = 0.6
START_SECONDS = 4
OTHER_SECONDS_PER_GIB = 8


def takes_part(target, job):
    return (job.is_load and (not target.only_jobs or job.name in target.only_jobs)
            and (not job.targets or target.name in job.targets))


class Plan:
    """What is to be measured, and for how long."""

    def __init__(self, jobs, targets, modes, rounds, seconds, size, resync_size, seed, quick):
        self.jobs = jobs
        self.targets = targets
        self.modes = modes
        self.rounds = rounds
        self.seconds = seconds
        self.size = size
        self.resync_size = resync_size
        self.seed = seed
        self.quick = quick

    def jobs_of(self, mode):
        return [job for job in self.jobs if mode in (job.quick if self.quick else job.modes)]


class Runner:
    """`say(text)` gets a line at a time. After run(): samples, skipped (target → reason) and
    broken (what went wrong, one text each)."""

    def __init__(self, plan, directory, say):
        self._plan = plan
        self._directory = directory
        self._say = say
        self._random = random.Random(plan.seed)
        self.samples = []
        self.skipped = {}
        self.broken = []

    def expected_seconds(self):
        """How long it will take, roughly: as it did on two processors of a small virtual machine."""
        plan = self._plan
        jobs = [job for mode in plan.modes for job in plan.jobs_of(mode)]
        loads = sum(takes_part(target, job) for job in jobs for target in plan.targets)
        others = sum(not job.is_load for job in jobs)
        return (len(plan.targets) * START_SECONDS + plan.rounds * (
            loads * (plan.seconds + LOAD_SECONDS)
            + others * OTHER_SECONDS_PER_GIB * plan.resync_size / (1 << 30)))

    def run(self):
        with contextlib.ExitStack() as stack:
            ready = self._start_targets(stack)
            for mode, number in self._rounds():
                for job in self._plan.jobs_of(mode):
                    if job.is_load:
                        self._compare(ready, mode, number, job)
                self._check_equal(ready, mode, number)
        with contextlib.ExitStack() as stack:
            self._measure_resync(stack)

    def _rounds(self):
        return itertools.product(self._plan.modes, range(self._plan.rounds))

    def _start_targets(self, stack):
        ready = []
        if not any(job.is_load for job in self._plan.jobs):
            return ready
        for kind in self._plan.targets:
            if not any(takes_part(kind, job) for job in self._plan.jobs):
                continue
            self._say(f"starting {kind.title}")
            try:
                ready.append(stack.enter_context(kind(self._directory, self._plan.size)))
            except Unavailable as reason:
                self.skipped[kind.name] = str(reason)
                self._say(f"skipped: {kind.title}: {reason}")
            except Exception as error:  # pylint: disable=broad-except
                self._report(f"{kind.name} could not be started", error)
        return ready

    def _compare(self, ready, mode, number, job):
        chosen = [target for target in ready if takes_part(target, job)]
        self._random.shuffle(chosen)
        figures = []
        for target in chosen:
            try:
                sample = self._measure(target, mode, job)
            except (load.LoadFailed, OSError, AssertionError) as error:
                self._report(f"{job.name} on {target.name}", error)
                ready.remove(target)  # what is broken would only be measured as such
                continue
            self._keep(mode, number, job, target.name, sample)
            figures.append(f"{target.name} {sample['value']:.0f}")
        self._say(f"{mode} {number + 1}/{self._plan.rounds} {job.name} ({job.unit}): "
                  + ", ".join(sorted(figures)))

    def _check_equal(self, ready, mode, number):
        for target in list(ready):
            try:
                target.check_equal()
            except load.LoadFailed as error:
                self._report(f"{mode} {number + 1}/{self._plan.rounds}", error)
                ready.remove(target)

    def _measure(self, target, mode, job):
        target.prepare(mode, job)
        pids = target.pids()
        before = _Meter(pids)
        sample = target.measure(job, mode, self._plan.seconds, self._random.randrange(2**31),
                                self._directory)
        servers, others, steal, elapsed = before.since()
        if not sample["operations"]:
            raise load.LoadFailed("not one operation was done")
        sample["cpu_us_per_operation"] = {
            "servers": servers * 1e6 / sample["operations"],
            "load": sample.pop("load_cpu_seconds") * 1e6 / sample["operations"]}
        sample["machine"] = {"others_cpu": others / elapsed, "steal": steal / elapsed}
        return sample

    def _measure_resync(self, stack):
        resync = None
        for mode, number in self._rounds():
            for job in [job for job in self._plan.jobs_of(mode) if not job.is_load]:
                try:
                    if resync is None:
                        self._say("starting a pair of nodes for resync and switch")
                        resync = stack.enter_context(Resync(
                            self._directory, self._plan.resync_size, self._plan.seconds))
                    found = resync.measure(job, mode, self._random.randrange(2**31))
                except Exception as error:  # pylint: disable=broad-except
                    self._report(job.name, error)
                    return
                for target, sample in found.items():
                    self._keep(mode, number, job, target, sample)
                self._say(f"{mode} {number + 1}/{self._plan.rounds} {job.name} ({job.unit}): "
                          + ", ".join(f"{name} {sample['value']:.3g}"
                                      for name, sample in found.items()))

    def _keep(self, mode, number, job, target, sample):
        self.samples.append({"mode": mode, "job": job.name, "target": target, "round": number}
                            | sample)

    def _report(self, what, error):
        lines = str(error).strip() or type(error).__name__
        self.broken.append(f"{what}: {lines}")
        print(f"broken: {what}: {lines}", file=sys.stderr)
        if not isinstance(error, (load.LoadFailed, AssertionError)):
            traceback.print_exception(error)


class _Meter:
    """Processor time of a target's servers, and of what has nothing to do with the run."""

    def __init__(self, pids):
        self._pids = pids
        self._servers = processors.seconds(pids)
        self._busy, self._steal = processors.machine()
        self._own = processors.own()
        self._began = time.monotonic()

    def since(self):
        elapsed = time.monotonic() - self._began
        busy, steal = processors.machine()
        servers = processors.seconds(self._pids) - self._servers
        others = max(busy - self._busy - servers - (processors.own() - self._own), 0.0)
        return servers, others, steal - self._steal, elapsed
