"""Whether certificates can be got of a CA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunnel_server.domain.diagnosis.finding import Finding, failed, ok, warning
from tunnel_server.domain.diagnosis.host_key import MOUNT


@dataclass(frozen=True, slots=True)
class Proof:
    """How a CA may look at a host: ``ways`` are the answers by challenge, empty where it gets here."""

    host: str
    ways: tuple[tuple[str, str], ...]


def judge(directory: str, problem: str, proofs: Sequence[Proof], dns: bool, lost_with: str = "") -> Finding:
    """Judge whether certificates can be got of the CA at ``directory``; ``dns`` if a plugin publishes records.

    ``lost_with`` is what the folder goes away with that they are put into, empty if it is kept.
    """
    if problem:
        return failed(
            f"{directory}: {problem}",
            "the server has to reach the CA by HTTPS: see firewall, DNS and, of a CA of your own, "
            "TUNNEL_SERVER_ACME_CA_FILE",
        )
    for proof in proofs:
        if not dns and not any(not answer for _, answer in proof.ways):
            return _unproved(proof)
    if lost_with:
        return warning(f"account and certificates are lost with {lost_with}; a CA signs a few a week only", MOUNT)
    how = "dns-01" if dns else ", ".join(sorted({kind for each in proofs for kind, answer in each.ways if not answer}))
    return ok(f"{directory} answers" + (f"; proof by {how}" if how else ""))


def _unproved(proof: Proof) -> Finding:
    if not proof.ways:
        return failed(
            f"{proof.host} can be proved to the CA by dns-01 only, and no plugin publishes records",
            "install a plugin with dns_challenge (docs/plugins/how-to/answer-dns-challenges.md), or leave the host out",
        )
    said = "; ".join(f"{kind}: {answer}" for kind, answer in proof.ways)
    return failed(
        f"the CA does not get here by {proof.host} ({said})",
        "for http-01, port 80 of the host has to lead to PORT; for tls-alpn-01, port 443 to TLS_PORT. From behind a "
        "router this may fail from inside only",
    )
