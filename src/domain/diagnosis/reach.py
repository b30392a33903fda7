"""Whether visitors and clients get here by the base URL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunnel_server.domain.diagnosis.chain import untrusted
from tunnel_server.domain.diagnosis.finding import Finding, failed, ok, warning
from tunnel_server.domain.diagnosis.trouble import Kind, Trouble


@dataclass(frozen=True, slots=True)
class Way:
    """What was asked at one address of a name. ``here`` if this machine has that address.

    ``ours`` if this server answered; otherwise ``trouble`` says why nobody did, or ``answer`` what somebody said.
    """

    address: str
    here: bool
    ours: bool = False
    answer: str = ""
    trouble: Trouble | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """What was tried, such as ``GET http://…/healthz``; ``try_it`` is a command for another machine.

    ``path`` says which port has to lead where.
    """

    what: str
    try_it: str
    path: str
    host: str


def judge(goal: Goal, ways: Sequence[Way]) -> Finding:
    """Judge all the ways to one goal, of which there is at least one."""
    bad = [way for way in ways if not way.ours]
    if not bad:
        return ok(f"{goal.what} gets here by {', '.join(way.address for way in ways)}")
    worst = next((way for way in bad if not _no_way(way)), bad[0])
    found = f"{goal.what} at {worst.address}: {worst.trouble.text if worst.trouble else worst.answer}"
    if _no_way(worst) and len(bad) < len(ways):
        return warning(
            f"{found}; it gets here by the other address",
            f"this machine has no way to that address, so it cannot be told: `{goal.try_it}` on a machine that has; "
            "remove its record if that fails",
        )
    return failed(found, _fix(goal, worst))


def _no_way(way: Way) -> bool:
    return way.trouble is not None and way.trouble.kind is Kind.UNREACHABLE


def _fix(goal: Goal, way: Way) -> str:
    if way.trouble is None:
        return (
            f"{goal.host} has to lead to this server and no other: see its records, and where the proxy, load balancer "
            f"or port forward in front sends it ({goal.path}); if it is redirected to https, set BASE_URL to that"
        )
    if way.trouble.kind is Kind.UNTRUSTED:
        return untrusted(way.trouble.code, goal.host)
    if way.here:
        return f"{goal.path}; the address is this machine's own, so see its port forwards, proxy and firewall"
    return (
        f"{goal.path}, through whatever is in front: port forward, load balancer, firewall. Behind NAT, a "
        "router that does not lead back to itself makes this fail from inside only: on another network, "
        f"`{goal.try_it}` tells"
    )


def by_other_port(goal: Goal, ways: Sequence[Way]) -> Finding:
    """Judge the ways of SSH clients, who may be told of another port than the server's own."""
    verdict = judge(goal, ways)
    if verdict.fix and all(way.trouble is not None for way in ways):
        return warning(
            verdict.found, f"{verdict.fix}. If clients are told another port that leads to this one, all may be well"
        )
    return verdict
