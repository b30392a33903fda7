"""CPU and memory of a process tree, read from /proc (Linux only)."""

from __future__ import annotations

import os
import threading

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _stat_fields(pid: int) -> list[str] | None:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def tree(roots: list[int]) -> list[int]:
    """The given processes and everything below them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat_fields(int(name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(name))
    out, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        if pid not in out:
            out.append(pid)
            todo += children.get(pid, [])
    return out


def cpu_seconds(roots: list[int]) -> float:
    """User+system seconds of the tree, counting reaped children."""
    ticks = 0
    for pid in tree(roots):
        fields = _stat_fields(pid)
        if fields:
            ticks += sum(int(x) for x in fields[11:15])  # utime stime cutime cstime
    return ticks / _TICK


def memory_mib(roots: list[int]) -> dict[str, float]:
    """RSS is the plain sum; PSS shares pages fairly between the processes."""
    rss = pss = 0
    pids = tree(roots)
    for pid in pids:
        fields = _stat_fields(pid)
        if fields:
            rss += int(fields[21]) * _PAGE
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                for line in f:
                    if line.startswith("Pss:"):
                        pss += int(line.split()[1]) * 1024
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            pass
    return {"rss": rss / 2**20, "pss": pss / 2**20, "processes": len(pids)}


def rss_mib(roots: list[int]) -> float:
    total = 0
    for pid in tree(roots):
        fields = _stat_fields(pid)
        if fields:
            total += int(fields[21]) * _PAGE
    return total / 2**20


def steal_ticks() -> tuple[int, int]:
    with open("/proc/stat") as f:
        values = [int(x) for x in f.readline().split()[1:9]]
    return values[7], sum(values)


class RssWatch:
    """Peak RSS of a tree while a block runs."""

    def __init__(self, roots: list[int], every: float = 0.25):
        self._roots, self._every = roots, every
        self._stop = threading.Event()
        self.start = self.peak = self.end = 0.0

    def __enter__(self) -> "RssWatch":
        self.start = self.peak = rss_mib(self._roots)
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()
        return self

    def _loop(self) -> None:
        while not self._stop.wait(self._every):
            self.peak = max(self.peak, rss_mib(self._roots))

    def __exit__(self, *_exc) -> None:
        self._stop.set()
        self._thread.join()
        self.end = rss_mib(self._roots)
        self.peak = max(self.peak, self.end)
