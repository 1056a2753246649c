# SPDX-License-Identifier: BSD-3-Clause
"""The pages that a run leaves: the JSON file, and docs/performance with tables and plots."""

import json

import plots
import resync
import table

HOW_TO_READ = """\
Written by `./quickstart bench --publish`; do not edit. The figures as JSON: `figures.json`.

## How to read this

* Everything runs on one machine, over loopback: no real network, one disk. Only **ratios** say
  something about the programs; the absolute figures say what this machine is.
* Ratios are **paired**: within one round the targets of a job are measured one after the other, in an
  order of their own each time, and the ratio is taken round by round. Shown are medians, with the
  least and the greatest round in brackets. Where a range has 1.0 in it, treat the two as equal.
* *pinned*: the load and all servers of a target share one processor: the length of the program's path.
  *free*: all processors: what a user sees, and much of it is where the scheduler puts whom.
* **Page cache**: the files are filled by 4 KiB writes through the target. Before each measurement they
  are written back and evicted; for jobs with reads or large writes they are then read once: reads come from
  the cache, and large writes do not wait for memory, which virtual machines hand out slowly.
* **The first write to a place** costs more in a mirror that remembers what is in flight. Each MiB got one write
  before each measurement, so what is shown is a volume in use; *after a rest* is shown beside it. (DRBD's
  activity log stays as it is in a rest of these seconds.)
* **TLS** is off, also in this project, but for the targets whose names say otherwise: they take part in the
  jobs in which the link's encryption shows.
* The load is fio's NBD engine; writes with a flush or FUA come from `tests/bench/nbd_load.cpp`, since
  fio sends no FUA. An operation "with a flush" is the write and the flush behind it.
* No two writes in flight overlap (fio's `serialize_overlap`): qemu's quorum leaves its copies different then.
* After each round the files of every target that replicates were compared byte by byte.
* *mirror-ungrouped*: the same programs, but the standby syncs its disk once for each request instead of once
  for all that came together; up to 16 at the same time, as `nbdkit file` would (*-serial*: one after the other).
* Resync: every block of one copy is overwritten (or 1 % of them, at random places) while the other is away. *mirror* is the
  sending alone, *in-sync* from the command until both are durably equal. *mirror-resyncing* is a writer at depth 1 beside
  it; its share of the time in which the resync really ran is `beside_resync` in `figures.json`.
* *guests*: two virtual machines of one processor each, emulated without KVM, each target a block device on
  a disk of its own. fio's libaio engine, direct. Slow, so only its ratios mean anything: that goes for the
  seconds of a switch there, too.
* *size and number*: sparse volumes, without a load, each step once, TLS on. "engine, every block changed" is the
  engine's memory when the peer lacks everything: the change map is 32 MiB a TiB.
* CPU time an operation is that of all of a target's servers, and of the load program.
* Rounds are few and short, so that the whole takes less than an hour; the order within a round is what makes
  them comparable, and the range says how much they can tell.
"""


def results(plan, machine, runners, judged, seconds, scale):
    """Everything of a run, for a program. `runners` have been run."""
    return {
        "schema": 1,
        "machine": machine,
        "settings": {"rounds": plan.rounds, "seconds": plan.seconds, "size_bytes": plan.size,
                     "resync_size_bytes": plan.resync_size, "seed": plan.seed,
                     "took_seconds": round(seconds)},
        "targets": _described(plan.targets),
        "skipped": {name: why for runner in runners for name, why in runner.skipped.items()},
        "broken": [what for runner in runners for what in runner.broken],
        "goals": judged,
        "scale": scale,
        "samples": [sample for runner in runners for sample in _in_order(plan, runner.samples)],
    }


def _described(targets):
    found = {target.name: {"name": target.name, "title": target.title, "note": target.note}
             for target in targets}
    for name, title in resync.TITLES.items():
        found.setdefault(name, {"name": name, "title": title, "note": "in the job of the resync"})
    return list(found.values())


def _in_order(plan, samples):
    """Of the targets and rounds: they were measured in an order that was drawn."""
    targets = [target.name for target in plan.targets]
    groups = list(dict.fromkeys((sample["mode"], sample["job"]) for sample in samples))

    def place(sample):
        target = sample["target"]
        return (groups.index((sample["mode"], sample["job"])),
                targets.index(target) if target in targets else len(targets), sample["round"])
    return sorted(samples, key=place)


def write_json(found, path):
    """A line a sample, so that two runs can be compared with diff."""
    head = json.dumps({key: value for key, value in found.items() if key != "samples"}, indent=1)
    lines = ",\n  ".join(json.dumps(_short(sample)) for sample in found["samples"])
    path.write_text(f'{head[:-2]},\n "samples": [\n  {lines}\n ]\n}}\n', encoding="utf-8")


def _short(value):
    """Six digits are more than any of these figures has."""
    if isinstance(value, dict):
        return {key: _short(entry) for key, entry in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write_pages(found, jobs, directory):
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.svg"):
        old.unlink()
    drawn = plots.draw(found["samples"], jobs, {target["name"]: target["title"]
                                                for target in found["targets"]})
    for name, text in drawn.items():
        (directory / name).write_text(text, encoding="utf-8")
    write_json(found, directory / "figures.json")
    (directory / "README.md").write_text(page(found, jobs, drawn), encoding="utf-8")


def page(found, jobs, drawn):
    parts = ["# Performance", HOW_TO_READ, "## The machine", _machine(found),
             "## The targets", _targets(found), "## Goals",
             "Medians of paired ratios; nothing fails when one is missed. Why one is: `docs/design.md`, section 22.",
             table.markdown(table.goal_rows(found["goals"]))]
    for mode, job, rows in table.sections(found["samples"], jobs):
        parts += [f"## {job.title}, {mode}", table.markdown(rows)]
    for section in found["scale"]:
        parts += [f"## {section['title']}", table.markdown(section["rows"])]
    parts += ["## Plots", *(f"![{name.removesuffix('.svg')}]({name})" for name in drawn)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _machine(found):
    machine, settings = found["machine"], found["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    busy = [sample["machine"] for sample in found["samples"] if "machine" in sample]
    disturbed = ""
    if busy:
        others = sorted(entry["others_cpu"] for entry in busy)
        steal = max(entry["steal"] for entry in busy)
        disturbed = (f"\n* what else ran during the measurements: median {others[len(others) // 2]:.2f}, "
                     f"most {others[-1]:.2f} processors; most stolen by the host {steal:.2f}")
    return (f"* {machine['processor']}, {machine['processors']} processors, "
            f"{machine['memory_gib']} GiB, virtualisation: {machine['virtualisation']}\n"
            f"* {machine['distribution']}, Linux {machine['kernel']}; backings on "
            f"{machine['filesystem']}\n"
            f"* {versions}\n"
            f"* mirrordisk {machine['commit']}, built with {machine['build']}\n"
            f"* {settings['rounds']} rounds of {settings['seconds']:g} s, volumes of "
            f"{settings['size_bytes'] >> 20} MiB (resync: {settings['resync_size_bytes'] >> 20} "
            f"MiB), seed {settings['seed']}{disturbed}"
            + "".join(f"\n* {note}" for note in found.get("notes", [])))


def _targets(found):
    rows = [["target", "is", "note"]]
    for target in found["targets"]:
        note = target["note"].replace("|", "\\|")
        if reason := found["skipped"].get(target["name"]):
            note = f"not measured: {reason}"
        rows.append([target["name"], target["title"], note])
    return table.markdown(rows)


def show(found, jobs, say):
    """For a terminal."""
    for mode, job, rows in table.sections(found["samples"], jobs):
        say(f"\n{job.title}, {mode} ({job.unit})")
        say(table.plain(rows))
    for section in found["scale"]:
        say(f"\n{section['title']}")
        say(table.plain(section["rows"]))
    if any(goal["met"] is not None for goal in found["goals"]):
        say("\ngoals (medians of paired ratios)")
        say(table.plain(table.goal_rows(found["goals"])))
    for target, reason in found["skipped"].items():
        say(f"skipped: {target}: {reason}")
    for what in found["broken"]:
        say(f"BROKEN: {what}")

