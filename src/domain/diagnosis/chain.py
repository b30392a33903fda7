"""Whether visitors can trust the certificates that they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from tunnel_server.domain.diagnosis.finding import Finding, failed, ok
from tunnel_server.domain.diagnosis.trouble import Trouble

# X509_V_ERR_* of OpenSSL
_NOT_YET, _EXPIRED, _SELF_SIGNED, _OF_SELF_SIGNED, _NO_ISSUER, _NO_ISSUER_OF_LEAF = 9, 10, 18, 19, 20, 21
_NO_SUCH_HOST, _NO_SUCH_ADDRESS = 62, 64


def judge(troubles: Sequence[tuple[str, Trouble | None]]) -> Finding:
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
