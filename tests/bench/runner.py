# SPDX-License-Identifier: BSD-3-Clause
"""The order of a run: rounds, in each of them every job, for each job the targets in an order of
their own. So the targets of one comparison are measured within one short time."""

import contextlib
import random
import sys
import time
import traceback

import load
import processors
from resync import Resync
from target import Unavailable


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

    def run(self):
        with contextlib.ExitStack() as stack:
            ready = self._start_targets(stack)
            for mode, number, job in self._steps(lambda job: job.is_load):
                self._compare(ready, mode, number, job)
        with contextlib.ExitStack() as stack:
            self._measure_resync(stack)

    def _steps(self, wanted):
        for mode in self._plan.modes:
            for number in range(self._plan.rounds):
                for job in self._plan.jobs_of(mode):
                    if wanted(job):
                        yield mode, number, job

    def _start_targets(self, stack):
        ready = []
        if not any(job.is_load for job in self._plan.jobs):
            return ready
        for kind in self._plan.targets:
            if kind.only_jobs and not any(job.name in kind.only_jobs for job in self._plan.jobs):
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
        chosen = [target for target in ready
                  if not target.only_jobs or job.name in target.only_jobs]
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

    def _measure(self, target, mode, job):
        target.prepare(mode, job.cached)
        pids = target.pids()
        before = _Meter(pids)
        sample = load.run(job, target.uri, self._plan.seconds, self._random.randrange(2**31),
                          mode, self._directory)
        servers, others, steal, elapsed = before.since()
        target.check_equal()
        if not sample["operations"]:
            raise load.LoadFailed("not one operation was done")
        sample["cpu_us_per_operation"] = {
            "servers": servers * 1e6 / sample["operations"],
            "load": sample.pop("load_cpu_seconds") * 1e6 / sample["operations"]}
        sample["machine"] = {"others_cpu": others / elapsed, "steal": steal / elapsed}
        return sample

    def _measure_resync(self, stack):
        resync = None
        for mode, number, job in self._steps(lambda job: not job.is_load):
            try:
                if resync is None:
                    self._say("starting a pair of nodes for resync and switch")
                    resync = stack.enter_context(Resync(self._directory, self._plan.resync_size))
                found = resync.measure(job, mode, self._random.randrange(2**31))
            except Exception as error:  # pylint: disable=broad-except
                self._report(job.name, error)
                return
            for target, value in found.items():
                self._keep(mode, number, job, target, {"value": value})
            self._say(f"{mode} {number + 1}/{self._plan.rounds} {job.name} ({job.unit}): "
                      + ", ".join(f"{name} {value:.3g}" for name, value in found.items()))

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
