"""Runs measurements in turn on all targets, and keeps their figures."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from basics import log
from goals import COMPARED, GCM


def is_number(v):
    return isinstance(v, (int, float))


class Bench:
    """The targets of a run and what was measured on them: results[scenario][target][figure]."""

    def __init__(self, opt, targets, origin, work):
        self.o, self.targets, self.origin, self.work = opt, targets, origin, work
        self.results: dict = {}
        self.seconds: dict = {}

    @property
    def servers(self):
        return [t for t in self.targets if t.kind == "server"]

    @property
    def compared(self):
        """The servers, and the floor that the goals name."""
        return [t for t in self.targets if t.kind == "server" or t.name == COMPARED]

    def put(self, scenario, target, figures):
        slot = self.results.setdefault(scenario, {}).setdefault(target.name, {})
        for k, v in figures.items():
            if is_number(v):
                slot.setdefault(k, []).append(v)
            else:
                slot[k] = v
        numbers = " ".join(f"{k}={v:.4g}" for k, v in figures.items() if is_number(v))
        log(f"{scenario:22} {target.name:16}", numbers)

    def failed(self, what, target_name, error):
        log(f"failed: {what} {target_name}: {error!r}"[:300])
        self.results.setdefault("failed", {}).setdefault(target_name, {}).setdefault(what, repr(error)[:300])

    def plan(self, targets, goal, reps=None):
        """[(target, repetitions)]: all alike, unless --side-reps spares what no goal speaks of."""
        o = self.o
        if reps or o.side_reps is None:
            return [(t, reps or o.reps) for t in targets]
        if not goal:
            return [(t, o.side_reps) for t in targets if t.name not in GCM]
        main = {COMPARED, *GCM[-1:]}
        return [(t, o.reps if t.kind == "server" or t.name in main else o.side_reps) for t in targets]

    def each(self, measure, targets=None, label="", goal=False, reps=None):
        """Run measure(target) so many times, alternating; a server that died is noted and started again."""
        plan = self.plan(self.targets if targets is None else targets, goal, reps)
        for rep in range(max((n for _, n in plan), default=0)):
            todo = [t for t, n in plan if rep < n]
            for t in todo if rep % 2 == 0 else reversed(todo):
                try:
                    self.revive(t, label)
                    measure(t)
                except Exception as e:
                    self.failed(label, t.name, e)
                    self.revive(t, label)

    def revive(self, t, label):
        """Start what has died again; a server's death is a result, too."""
        if t.kind == "server" and t.proc.poll() is not None:
            log(f"!!! {t.name} died (exit {t.proc.returncode}) around '{label}'")
            self.put("crashes", t, {"exit": t.proc.returncode, label or "?": 1})
            had_client = t.client is not None
            t.stop()
            t.start(t.extra_env)
            if had_client:
                t.connect()
        elif t.client is not None and t.client.poll() is not None:
            log(f"the ssh client of {t.name} has ended (exit {t.client.returncode}) around '{label}'")
            t.disconnect()
            t.connect()

    @contextlib.contextmanager
    def fresh(self, t, env=None):
        """A freshly started server without a client for the block, with settings of its own; an ordinary one after."""
        t.stop()
        try:
            t.start(env)
            yield
        finally:
            if env or t.proc.poll() is not None:
                t.stop()
                t.start()
            t.connect()

    def run(self, name, scenario):
        """One scenario; its failure is a result and does not keep the others from running."""
        begun = time.monotonic()
        try:
            for t in self.servers:
                self.revive(t, "between")
                if t.client is None:
                    t.connect()
            scenario(self)
        except Exception as e:
            import traceback

            traceback.print_exc()
            self.failed(name, "(scenario)", e)
        self.seconds[name] = round(time.monotonic() - begun, 1)
        log(f"{name} took {self.seconds[name]:.0f} s")
        self.save()

    def save(self):
        results = {s: {t: fold(f) for t, f in ts.items()} for s, ts in self.results.items()}
        data = {"meta": self.meta(), "results": results}
        if self.o.out:
            Path(self.o.out).write_text(json.dumps(data, indent=1))
        return data

    def meta(self):
        return {
            "time": time.strftime("%FT%T"),
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "ssh": version("ssh", "-V"),
            "nginx": version("nginx", "-v"),
            "wrk": version("wrk", "-v"),
            "reps": self.o.reps,
            "side_reps": self.o.side_reps,
            "growth_reps": self.o.growth_reps,
            "duration": self.o.duration,
            "growth_duration": self.o.growth_duration,
            "seconds": self.seconds,
            "targets": [{"name": t.name, "kind": t.kind, **getattr(t, "spec", {})} for t in self.targets],
        }


def fold(figures):
    """The repetitions of each figure as their median and range."""
    out = {}
    for k, v in figures.items():
        if isinstance(v, list):
            v = {"median": statistics.median(v), "min": min(v), "max": max(v), "values": v}
        out[k] = v
    return out


def version(*command):
    p = subprocess.run(command, capture_output=True, text=True)
    return (p.stdout + p.stderr).strip().splitlines()[0]
