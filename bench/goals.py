"""The goals of the project, and how far what was measured is from them."""

from __future__ import annotations

from dataclasses import dataclass

COMPARED = "nginx+sshd"  # the floor that the goals name, with the cipher OpenSSH chooses
GCM = ("sshd+gcm", "nginx+sshd+gcm")  # floors with AES-GCM; the last is COMPARED's
FLOOR_NAMES = ("direct", "sshd", COMPARED, *GCM)
MIXED = "mixed 50/s + 2 downloads"
HTTPS = "https 2B c64"
FLOOD = "https 50/s + handshakes"
FAULTS = ("errors", "lost", "not_200")  # figures that count what went wrong


@dataclass(frozen=True)
class Goal:
    what: str
    scenario: str
    figure: str
    bound: str  # ">=" or "<="
    limit: float
    ratio: bool = True  # of medians, ours by the floor's; else the limit is for the figure itself


GOALS = [
    Goal("2 B, 64 connections: requests/s", "small 2B c64", "rate", ">=", 1.0),
    Goal("2 B, 64 connections: server CPU per 1,000", "small 2B c64", "server_cpu_s_per_1000", "<=", 1.5),
    Goal("2 B, one connection: p50", "small 2B c1", "p50_ms", "<=", 1.0),
    Goal("2 B, one connection: p99", "small 2B c1", "p99_ms", "<=", 0.3),
    Goal("Connection: close, 16 connections: requests/s", "close 2B c16", "rate", ">=", 0.5),
    Goal("1 GiB download: MB/s", "download 1GiB x1", "MB_per_s", ">=", 1.5),
    Goal("256 MiB upload: MB/s", "upload 256MiB x1", "MB_per_s", ">=", 1.3),
    Goal("100 websockets: messages/s", "ws c100", "rate", ">=", 1.2),
    Goal("50 requests/s beside two downloads: p99", MIXED, "p99_ms", "<=", 0.3),
    Goal("50 requests/s beside two downloads: p99, ms", MIXED, "p99_ms", "<=", 12, ratio=False),
    Goal("two downloads beside 50 requests/s: share of alone", MIXED, "download_share", ">=", 0.85, ratio=False),
    Goal("HTTPS, 2 B, 64 connections: server CPU to HTTP's", HTTPS, "cpu_to_http", "<=", 1.35, ratio=False),
    Goal("TLS 1.3 handshakes/s", "handshakes TLS 1.3", "rate", ">=", 0.5),
    Goal("TLS 1.2 handshakes/s", "handshakes TLS 1.2", "rate", ">=", 0.5),
    Goal("50 HTTPS requests/s beside handshakes: p99, ms", FLOOD, "p99_ms", "<=", 30, ratio=False),
    Goal("500 idle clients: cores", "memory 500 clients", "idle_cpu_cores", "<=", 0.03, ratio=False),
    Goal("500 idle clients: KiB each", "memory 500 clients", "rss_KiB_per_client", "<=", 25, ratio=False),
    Goal("5,000 idle clients: connected", "idle 5000 clients", "alive", ">=", 5000, ratio=False),
    Goal("5,000 idle clients: 50 of their tunnels served", "idle 5000 clients", "served", ">=", 50, ratio=False),
    Goal("4 downloads read at 1 MB/s: growth, MiB", "slow readers x4", "peak_growth_MiB", "<=", 24, ratio=False),
]


def median(results, scenario, target, figure):
    """The median, or None if it was not measured."""
    v = results.get(scenario, {}).get(target, {}).get(figure)
    return v["median"] if isinstance(v, dict) else None


def faults(results, scenario, target):
    """The most that went wrong in one repetition."""
    figures = results.get(scenario, {}).get(target, {})
    return sum(figures[k]["max"] for k in FAULTS if isinstance(figures.get(k), dict))


def meets(goal, value):
    return value >= goal.limit if goal.bound == ">=" else value <= goal.limit


def servers(results):
    """The targets that are no floors and have figures of a goal."""
    names = (t for g in GOALS for t in results.get(g.scenario, {}))
    return [t for t in dict.fromkeys(names) if t not in FLOOR_NAMES]


def judge(results, server):
    """A row for each goal: (goal, ours, {floor: (its figure, ratio to it or None, verdict)})."""
    rows = []
    for g in GOALS:
        ours = median(results, g.scenario, server, g.figure)
        floors = {}
        for floor in (COMPARED, GCM[-1]):
            theirs = median(results, g.scenario, floor, g.figure)
            value = ours
            if g.ratio:
                value = ours / theirs if ours is not None and theirs else None
            floors[floor] = (theirs, value if g.ratio else None, verdict(results, server, g, value))
        rows.append((g, ours, floors))
    return rows


def verdict(results, server, goal, value):
    """Whether a goal is met; never if something went wrong on the way."""
    failed = results.get("failed", {}).get(server, {})
    wrong = faults(results, goal.scenario, server)
    if goal.scenario in failed:
        return "no: failed"
    if value is None:
        return "not measured"
    if wrong:
        return f"no: {wrong:.0f} errors"
    return "yes" if meets(goal, value) else "no"
