# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: each job is one load, with one figure that counts."""

import dataclasses

KIB, MIB = 1 << 10, 1 << 20
PINNED, BOTH = ("pinned",), ("pinned", "free")


@dataclasses.dataclass(frozen=True)
class Job:
    """`figure` is what the job's value is, in `unit`; more of it is better unless `less_is_better`.

    A load of fio is a list of its jobs, each a dictionary of options; one of nbd_load has a depth
    and how a write is made durable. Whoever has neither is measured by code of its own.
    """
    name: str
    title: str
    family: str
    fio: tuple = ()
    depth: int = 0
    durability: str = ""
    figure: str = "operations"
    unit: str = "op/s"
    less_is_better: bool = False
    cached: bool = False      # the files are read once after they were evicted
    rested: bool = False      # nobody used the volume for a while; else each of its MiB was touched
    targets: tuple = ()       # these alone
    modes: tuple = PINNED
    quick: tuple = ()         # the modes of --quick

    @property
    def is_load(self):
        return bool(self.fio or self.durability)


def _fio(name, title, family, depth, block, kind, **keys):
    bulk = block >= 64 * KIB
    figure = {"figure": "bytes", "unit": "MB/s"} if bulk else {}
    extra = keys.pop("options", {})
    options = {"rw": kind, "bs": block, "iodepth": depth} | extra
    return Job(name, title, family, fio=(options,), **figure, **keys)


def _durable(durability, depth, **keys):
    words = {"flush": "and a flush after each", "fua": "with FUA"}[durability]
    writers = "1 writer" if depth == 1 else f"{depth} writers"
    return Job(f"{durability}-4k-qd{depth}", f"4 KiB random write {words}, {writers}",
               "durable writes", depth=depth, durability=durability, **keys)


# A commit is an append to the log and its flush; pages are read and written back meanwhile.
_DATABASE = (
    {"name": "log", "rw": "write", "bs": 4 * KIB, "size": "25%", "iodepth": 1, "fsync": 1},
    {"name": "pages", "rw": "randrw", "rwmixread": 70, "bs": 8 * KIB, "offset": "25%",
     "size": "75%", "iodepth": 8, "fsync": 64},
)

RESYNC_FULL, RESYNC_PART, RESYNC_LATENCY = "resync-full", "resync-1-percent", "resync-latency"
SWITCH = "switch-idle"

# Where the links' encryption shows, and a peer's flushes: the targets that are there for that take
# part in these alone.
ENCRYPTED = ("randwrite-4k-qd1", "randwrite-4k-qd16", "flush-4k-qd1", "fua-4k-qd16", "write-1m-qd8")
UNGROUPED = ("fua-4k-qd16", "fua-4k-qd32")

JOBS = (
    _fio("randwrite-4k-qd1", "4 KiB random write, depth 1", "random writes", 1, 4 * KIB,
         "randwrite", modes=BOTH, quick=PINNED),
    _fio("randwrite-rested-4k-qd1", "4 KiB random write, depth 1, the first second after a rest",
         "random writes", 1, 4 * KIB, "randwrite", rested=True,
         targets=("file", "quorum", "mirror", "mirror-express")),
    _fio("randwrite-4k-qd16", "4 KiB random write, depth 16", "random writes", 16, 4 * KIB,
         "randwrite", modes=BOTH, quick=BOTH),
    _fio("randwrite-4k-qd32", "4 KiB random write, depth 32", "random writes", 32, 4 * KIB,
         "randwrite", quick=PINNED),
    _durable("flush", 1, quick=PINNED),
    _durable("flush", 16),
    _durable("flush", 32),
    _durable("fua", 1),
    _durable("fua", 16, quick=PINNED),
    _durable("fua", 32),
    _fio("write-64k-qd16", "64 KiB random write, depth 16", "large writes", 16, 64 * KIB,
         "randwrite", cached=True),
    _fio("write-1m-qd8", "1 MiB random write, depth 8", "large writes", 8, MIB, "randwrite",
         cached=True, modes=BOTH, quick=PINNED),
    _fio("read-4k-qd1", "4 KiB random read, depth 1", "reads", 1, 4 * KIB, "randread",
         cached=True),
    _fio("read-4k-qd16", "4 KiB random read, depth 16", "reads", 16, 4 * KIB, "randread",
         cached=True, modes=BOTH, quick=PINNED),
    _fio("read-1m-qd8", "1 MiB random read, depth 8", "reads", 8, MIB, "randread", cached=True),
    _fio("mixed-4k-qd16", "4 KiB, 70 % reads and 30 % writes, depth 16", "mixed", 16, 4 * KIB,
         "randrw", cached=True, options={"rwmixread": 70}),
    Job("database", "database: 4 KiB log with a flush after each, 8 KiB pages beside it", "mixed",
        fio=_DATABASE, unit="commits/s", cached=True),
    Job(RESYNC_FULL, "resync of a volume of which every block is dirty", "resync",
        figure="bytes", unit="MB/s", quick=PINNED),
    Job(RESYNC_PART, "resync of a volume of which 1 % is dirty", "resync", figure="seconds",
        unit="s", less_is_better=True),
    Job(RESYNC_LATENCY, "p99 latency of 4 KiB random writes at depth 1 beside a resync", "resync",
        figure="p99", unit="us", less_is_better=True, modes=BOTH, quick=("free",)),
    Job(SWITCH, "switch of an idle volume to the other node", "switch", figure="seconds",
        unit="s", less_is_better=True, quick=PINNED),
)


def by_name(name, jobs=JOBS):
    return next(job for job in jobs if job.name == name)
