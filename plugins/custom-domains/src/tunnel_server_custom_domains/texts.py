"""What clients are told when they do not get a name. One line each."""

from __future__ import annotations

from tunnel_server_custom_domains.fingerprints import record_value
from tunnel_server_custom_domains.names import Domain
from tunnel_server_custom_domains.proof import Finding, Verdict


def refusal(domain: Domain, fingerprint: str, finding: Finding, base_host: str) -> str:
    """Return why ``domain`` is refused, and what to do."""
    match finding.verdict:
        case Verdict.LIMITED:
            return "too many look-ups for you in the last minute: try again in a minute"
        case Verdict.UNKNOWN:
            return f"no name server could tell whether {domain.record} holds your key: try again later"
        case _ if finding.others:
            return f"{domain.record} does not name your key: {_how(domain, fingerprint, base_host)}"
        case _:
            return _how(domain, fingerprint, base_host)


def not_mapped(domain: Domain, fingerprint: str) -> str:
    """Return why ``domain`` is refused where records do not count."""
    return f"this server's operator has not given {domain.name} to your key {fingerprint}"


def _how(domain: Domain, fingerprint: str, base_host: str) -> str:
    record = f'create the TXT record {domain.record} with the value "{record_value(fingerprint)}"'
    if domain.host == domain.registrable and not domain.wildcard:  # a zone's top has no CNAME (RFC 1034 §3.6.2)
        return (
            f"{record}, and point {domain.name} at {base_host} by an ALIAS record, or by the A and AAAA records of that"
        )
    return f"{record}, and point {domain.name} at {base_host} by a CNAME record"
