"""Whether the certificates that are configured can be used, are for the server's names, and are in their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tunnel_server.domain.certificates import CertificateTable, Validity, covered, covers, validity
from tunnel_server.domain.diagnosis.dns import is_address
from tunnel_server.domain.diagnosis.finding import Finding, failed, ok, skipped, warning

ANY = "any"  # a label like another


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


def judge(held: Sequence[Held], problem: str, needs: Needs, now: float) -> Finding:
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


def development(authority: str) -> Finding:
    """Judge a certificate made for development, whose CA is in the file ``authority``."""
    return warning(
        f"it is one for development: only who trusts {authority} is not warned",
        "good to try things; for others, get one that all trust (docs/how-to/tls.md) and leave dev_tls out",
    )
