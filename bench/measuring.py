"""What a block of work cost: CPU of the server, the SSH client and the origin."""

from __future__ import annotations

import time

from proctree import cpu_seconds, steal_ticks


class Meter:
    """CPU seconds of server, ssh client and origin over a block."""

    def __init__(self, target, origin, client_pids=None):
        self.roots = {
            "server": target.server_pids(),
            "sshclient": client_pids or target.client_pids(),
            "origin": origin.pids(),
        }

    def _now(self):
        return {k: cpu_seconds(v) if v else 0.0 for k, v in self.roots.items()}

    def __enter__(self):
        self._a, self._steal, self._t = self._now(), steal_ticks(), time.perf_counter()
        return self

    def __exit__(self, *_):
        b, s = self._now(), steal_ticks()
        self.wall = time.perf_counter() - self._t
        self.cpu = {k: b[k] - self._a[k] for k in b}
        self.steal = (s[0] - self._steal[0]) / max(1, s[1] - self._steal[1])

    def per(self, n, unit):
        """CPU of each part per n things, and how busy the server was (1.0 = one core)."""
        out = {f"{k}_cpu_{unit}": v / n for k, v in self.cpu.items()} if n else {}
        out["server_busy_cores"] = self.cpu["server"] / self.wall
        out["steal"] = self.steal
        return out
