# SPDX-License-Identifier: BSD-3-Clause
"""The figures of a run, as a table and as JSON."""

import json


def figures(run):
    """`run` is a finished Run."""
    arena = run.arena
    events = [event["id"] for node in arena.nodes for event in node.events()]
    return {
        "schema": 1,
        "seed": run.seed,
        "seconds": round(run.seconds, 1),
        "rounds": run.rounds,
        "layout": str(arena.layout),
        "operations": dict(sorted(arena.load.counts.items())),
        "bytes": dict(sorted(arena.load.bytes.items())),
        "faults": dict(sorted(run.faults.items())),
        "skipped": dict(sorted(run.skipped.items())),
        "refused_commands": dict(sorted(arena.refusals.items())),
        "disconnects": arena.load.disconnects,
        "longest_pause_seconds": round(run.longest_pause, 2),
        "longest_pause_during": run.longest_pause_during,
        "machine_stood_still_seconds": round(run.stood_still, 1),
        "mirror_breaks": events.count("mirror-break"),
        "resyncs_done": events.count("resync-done"),
        "resyncs_interrupted": events.count("resync-interrupted"),
        "replica_checks": arena.checks,
        "answered_writes_given_up_by_force": arena.given_up,
        "violations": run.violations,
        "kept": str(arena.cluster.directory) if run.violations else None,
        "replay": run.replay(),
    }


def table(result):
    lines = [f"torture: seed {result['seed']}, {result['rounds']} rounds, {result['seconds']} s"]
    lines += _row("arena", result["layout"])
    for key in ("operations", "bytes", "faults", "skipped", "refused_commands"):
        counted = result[key]
        if not counted:
            continue
        show = _size if key == "bytes" else str
        text = ", ".join(f"{name} {show(count)}" for name, count in counted.items() if count)
        lines += _row(key.replace("_", " "), f"{show(sum(counted.values()))}: {text}")
    pause = f"{result['longest_pause_seconds']} s"
    if result["longest_pause_during"]:
        pause += f", during {result['longest_pause_during']}"
    lines += _row("longest pause", pause)
    if result["machine_stood_still_seconds"]:
        lines += _row("machine stood", f"still for {result['machine_stood_still_seconds']} s, not counted")
    lines += _row("mirror", f"{result['mirror_breaks']} breaks, {result['resyncs_done']} resyncs, "
                            f"{result['resyncs_interrupted']} interrupted")
    lines += _row("checks", f"{result['replica_checks']} of replicas")
    lines += _row("given up by force",
                  f"{result['answered_writes_given_up_by_force']} answered writes, as named")
    lines += _row("violations", str(len(result["violations"])) if result["violations"] else "none")
    lines += [f"  {line}" for text in result["violations"] for line in text.splitlines()]
    if result["violations"]:
        lines += _row("kept", result["kept"])
        lines += _row("replay", result["replay"])
    return "\n".join(lines)


def write_json(result, path):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(result, out, indent=2)
        out.write("\n")


def _row(name, text):
    return [f"  {name:<18}{text}"]


def _size(count):
    return f"{count / (1024 * 1024):.0f} MiB"
