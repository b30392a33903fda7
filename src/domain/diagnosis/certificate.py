"""Whether visitors can trust the server's certificates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tunnel_server.domain.certificates import CertificateTable, Validity, covered, covers, validity
from tunnel_server.domain.diagnosis.dns import is_address
from tunnel_server.domain.diagnosis.finding import Finding, failed, ok, skipped, warning
from tunnel_server.domain.diagnosis.host_key import MOUNT
from tunnel_server.domain.diagnosis.trouble import Trouble

ANY = "any"  # a label like another

# X509_V_ERR_* of OpenSSL
_NOT_YET, _EXPIRED, _SELF_SIGNED, _OF_SELF_SIGNED, _NO_ISSUER, _NO_ISSUER_OF_LEAF = 9, 10, 18, 19, 20, 21
_NO_SUCH_HOST, _NO_SUCH_ADDRESS = 62, 64


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate that is configured; times in seconds of the epoch, ``source`` a file's name."""

    source: str
    names: tuple[str, ...]
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Needs:
    """What certificates are for: the base host, and the labels below it. ``https`` if its URL says so.

    ``ordered`` are the hosts that a CA is asked for, ``on_demand`` if also any label that a visitor wants.
    """

    base: str
    https: bool
    ordered: tuple[str, ...] = ()
    on_demand: bool = False


def configured(held: Sequence[Held], problem: str, needs: Needs, now: float) -> Finding:
    """Judge what is configured; ``problem`` tells why it cannot be used, if it cannot."""
    if problem:
        return failed(
            problem,
            "give the certificate with its chain, and its unencrypted key, as PEM that the server may read: "
            "TLS_CERT_FILE and TLS_KEY_FILE, or TUNNEL_SERVER_TLS_CERT_DIR; `openssl x509 -text -in FILE` shows it",
        )
    if not held and not needs.ordered and not needs.on_demand:
        return _none(needs)
    table = CertificateTable(held, now)
    for host in _hosts(needs):
        chosen = _chosen(table, host)
        if chosen is None:
            if not _ordered(needs, host):
                return _uncovered(needs, host, held)
        elif wrong := _out_of_time(chosen, now):
            return wrong
    return ok(_told(needs, table))


def _hosts(needs: Needs) -> tuple[str, ...]:
    return (needs.base,) if is_address(needs.base) else (needs.base, f"{ANY}.{needs.base}")


def _chosen(table: CertificateTable[Held], host: str) -> Held | None:
    # Which addresses it is for is not known here: the handshake tells.
    return table.default if is_address(host) else table.find(host)


def _none(needs: Needs) -> Finding:
    if needs.https:
        return skipped("there is none here: whoever is in front of the server has to do TLS (see `reach base`)")
    return warning(
        "there is none, and the base URL is http: what visitors send can be read and changed on the way",
        "get a certificate (docs/how-to/tls.md) or put a proxy that has one in front, and set BASE_URL=https://…",
    )


def _ordered(needs: Needs, host: str) -> bool:
    return covers(covered(needs.ordered), host) or (needs.on_demand and host != needs.base)


def _uncovered(needs: Needs, host: str, held: Sequence[Held]) -> Finding:
    shown = host.replace(f"{ANY}.", "*.", 1)
    names = ", ".join(name for each in held for name in each.names) or ", ".join(needs.ordered) or "nothing"
    found = f"none covers {shown} (there is {names})"
    fix = f"get a certificate for both {needs.base} and *.{needs.base}"
    if needs.ordered:
        fix = (
            f"TUNNEL_SERVER_ACME_HOSTS='{needs.base}, *.{needs.base}'; the wildcard needs a plugin that publishes "
            "DNS records (docs/plugins/how-to/answer-dns-challenges.md)"
        )
    return failed(found, fix) if needs.https else warning(found, fix)


def _out_of_time(chosen: Held, now: float) -> Finding | None:
    match validity(chosen, now):
        case Validity.OVER:
            return failed(f"{chosen.source} expired on {_date(chosen.not_after)}", _RENEW)
        case Validity.NOT_YET:
            return failed(
                f"{chosen.source} is valid from {_date(chosen.not_before)} only",
                "see whether the clock is right; else put the former certificate back",
            )
        case Validity.ENDS_SOON:
            return warning(f"{chosen.source} expires on {_date(chosen.not_after)}", _RENEW)
        case Validity.GOOD:
            return None


_RENEW = "renew it and put the new one in its place: it is served within a second, without a restart"


def _told(needs: Needs, table: CertificateTable[Held]) -> str:
    parts = []
    for host in _hosts(needs):
        chosen = _chosen(table, host)
        until = f"until {_date(chosen.not_after)}" if chosen else "by the CA"
        parts.append(f"{host.replace(f'{ANY}.', '*.', 1)} {until}")
    return ", ".join(parts)


def _date(when: float) -> str:
    try:
        return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):
        return "a day out of reach"


def served(troubles: Sequence[tuple[str, Trouble | None]]) -> Finding:
    """Judge handshakes, each for a host, by what was wrong with it."""
    for host, trouble in troubles:
        if trouble is not None:
            return failed(f"a visitor of {host} is told: {trouble.text}", untrusted(trouble.code, host))
    return ok(f"leads to a CA that this machine trusts, for {', '.join(host for host, _ in troubles)}")


def untrusted(code: int, host: str) -> str:
    """Return the fix of a failed handshake by OpenSSL's code, 0 if it failed by something else."""
    if code == _EXPIRED:
        return "renew the certificate (see `certificate`), or see whether the clock is right"
    if code == _NOT_YET:
        return "see whether the clock is right"
    if code in (_SELF_SIGNED, _OF_SELF_SIGNED):
        return (
            "it is signed by itself or by a CA of your own: get one of a public CA (docs/how-to/tls.md), or have every "
            "client, this machine among them, trust yours (SSL_CERT_FILE names the list for this command)"
        )
    if code in (_NO_ISSUER, _NO_ISSUER_OF_LEAF):
        return (
            "the chain is not complete: put the CA's intermediate certificates behind the server's own in the same "
            "file (many tools call it fullchain.pem); if the CA is your own, have clients trust it"
        )
    if code in (_NO_SUCH_HOST, _NO_SUCH_ADDRESS):
        return f"get a certificate that covers {host} (see `certificate`); in front of a proxy, the proxy's"
    return "see the server's log for certificate.refused and, with ACME, for acme; `openssl s_client` shows more"


@dataclass(frozen=True, slots=True)
class Proof:
    """How a CA may look at a host: ``ways`` are the answers by challenge, empty where it gets here."""

    host: str
    ways: tuple[tuple[str, str], ...]


def acme(directory: str, problem: str, proofs: Sequence[Proof], dns: bool, lost_with: str = "") -> Finding:
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


def development(authority: str) -> Finding:
    """Judge a certificate made for development, whose CA is in the file ``authority``."""
    return warning(
        f"it is one for development: only who trusts {authority} is not warned",
        "good to try things; for others, get one that all trust (docs/how-to/tls.md) and leave dev_tls out",
    )
