"""report.py RESULT.json [MORE.json ...] -> markdown tables: what was measured (median [min–max]), and the goals."""

import json
import re
import sys
from pathlib import Path

from goals import COMPARED, GCM, faults, judge, servers

HIDDEN = {"steal"}
APART = {"failed", "crashes"}  # not figures of a scenario


def load(files):
    """The results of all files together; of a target that two files have, those of the last."""
    merged = {}
    for f in files:
        for scenario, targets in json.loads(Path(f).read_text())["results"].items():
            merged.setdefault(scenario, {}).update(targets)
    return merged


def number(x):
    return f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def cell(v):
    if v is None:
        return ""
    if not isinstance(v, dict):
        return str(v)[:60]
    return number(v["median"]) + ("" if v["min"] == v["max"] else f" [{number(v['min'])}–{number(v['max'])}]")


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def growth_of(scenario):
    """("growth tunnels", 100) of "growth tunnels 100"; None of other scenarios."""
    m = re.fullmatch(r"(growth \w+) (\d+)", scenario)
    return (m[1], int(m[2])) if m else None


def figures_of(rows):
    return list(dict.fromkeys(k for f in rows for k in f if k not in HIDDEN))


def print_scenario(scenario, targets):
    keys = figures_of(targets.values())
    print(f"\n**{scenario}**\n")
    table(["target", *keys], [[t, *(cell(f.get(k)) for k in keys)] for t, f in targets.items()])


def print_growth(results):
    kinds = dict.fromkeys(g[0] for s in results if (g := growth_of(s)))
    for kind in kinds:
        steps = sorted((g[1], targets) for s, targets in results.items() if (g := growth_of(s)) and g[0] == kind)
        keys = figures_of(f for _, targets in steps for f in targets.values())
        print(f"\n**{kind}**\n")
        rows = [[str(n), t, *(cell(f.get(k)) for k in keys)] for n, targets in steps for t, f in targets.items()]
        table([kind.split()[1], "target", *keys], rows)


def print_failures(results):
    for what in sorted(APART & set(results)):
        print(f"\n**{what}**\n")
        for target, notes in results[what].items():
            for where, why in notes.items():
                print(f"* {target}, {where}: {cell(why) if isinstance(why, dict) else why}")


def print_goals(results):
    for server in servers(results):
        print(f"\n**Goals of {server}: medians, and their ratio to the floor's**\n")
        head = ["goal", "limit", server, COMPARED, "ratio", "met", f"ratio to {GCM[-1]}", "met"]
        table(head, [goal_row(results, *judged) for judged in judge(results, server)])


def goal_row(results, goal, ours, floors):
    theirs, ratio, met = floors[COMPARED]
    _, gcm_ratio, gcm_met = floors[GCM[-1]]
    wrong = goal.ratio and faults(results, goal.scenario, COMPARED)
    return [
        goal.what,
        f"{'ratio ' if goal.ratio else ''}{goal.bound} {goal.limit:g}",
        "" if ours is None else number(ours),
        ("" if theirs is None else number(theirs)) + (f" ({wrong:.0f} errors)" if wrong else ""),
        "" if ratio is None else f"{ratio:.2f}",
        met,
        "" if gcm_ratio is None else f"{gcm_ratio:.2f}",
        "" if gcm_ratio is None else gcm_met,
    ]


def main():
    results = load(sys.argv[1:])
    for scenario, targets in results.items():
        if scenario not in APART and not growth_of(scenario):
            print_scenario(scenario, targets)
    print_growth(results)
    print_failures(results)
    print_goals(results)


if __name__ == "__main__":
    main()
