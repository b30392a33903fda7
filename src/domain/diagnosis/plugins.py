"""Whether plugins load, and somebody may log in by them."""

from __future__ import annotations

from collections.abc import Sequence

from tunnel_server.domain.diagnosis.finding import Finding, failed, ok, warning

OPEN = "accept-any-key"


def judge(names: Sequence[str], problem: str, somebody_may_log_in: bool, guests: bool = True) -> Finding:
    """Judge the plugins of these ``names``; ``problem`` tells why they could not be loaded or started.

    Without ``guests`` nobody refuses whom the house lets in.
    """
    if problem:
        return failed(
            problem,
            "mend or remove that plugin, or leave it out: TUNNEL_SERVER_PLUGINS names those to use; "
            "`tunnel-server plugins` lists those that are found",
        )
    if not somebody_may_log_in:
        return warning(
            f"{', '.join(names)}: none of them lets anybody log in",
            "add accept-any-key to TUNNEL_SERVER_PLUGINS, or a plugin that knows who may",
        )
    open_to_all = "; any key may log in" if OPEN in names and not guests else ""
    return ok(", ".join(names) + open_to_all)


def sessions(secrets: int) -> Finding:
    """Judge how long visitors of private tunnels stay signed in, by how many secrets are set."""
    if secrets:
        return ok("COOKIE_SECRETS is set: sessions outlive a restart")
    return warning(
        "COOKIE_SECRETS is not set: visitors of private tunnels have to sign in again after each start",
        "set COOKIE_SECRETS to 32 random characters, such as `openssl rand -hex 16` prints",
    )
