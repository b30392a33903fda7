"""report.py A.json [B.json ...] -> markdown tables (median, [min-max])."""

import json
import sys
from pathlib import Path

merged = {}
for f in sys.argv[1:]:
    for s, ts in json.loads(Path(f).read_text())["results"].items():
        merged.setdefault(s, {}).update(ts)


def fmt(v):
    if not isinstance(v, dict):
        return str(v)[:40]
    n = lambda x: f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}"
    return n(v["median"]) + ("" if v["min"] == v["max"] else f" [{n(v['min'])}–{n(v['max'])}]")


for s, ts in merged.items():
    keys = list(dict.fromkeys(k for f in ts.values() for k in f if k != "steal"))
    print(f"\n**{s}**\n\n| target | " + " | ".join(keys) + " |\n|---" * 1 + "|---" * len(keys) + "|")
    for t, f in ts.items():
        print(f"| {t} | " + " | ".join(fmt(f[k]) if k in f else "" for k in keys) + " |")
