"""All checks, side by side: none can hang or end the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tunnel_server.app.doctor import inside, outside, trust
from tunnel_server.app.doctor.inputs import Inputs
from tunnel_server.app.doctor.surroundings import Surroundings
from tunnel_server.domain.diagnosis.finding import Finding, failed

LOOKS = 6  # one after the other in a check, at most

CHECKS: dict[str, Callable[[Surroundings], Awaitable[Finding]]] = {
    "plugins": inside.check_plugins,
    "sessions": inside.check_sessions,
    "host key": inside.check_host_key,
    "clock": inside.check_clock,
    "port http": inside.check_http_port,
    "port ssh": inside.check_ssh_port,
    "port tls": inside.check_tls_port,
    "port metrics": inside.check_metrics_port,
    "dns base": outside.check_dns_base,
    "dns wildcard": outside.check_dns_wildcard,
    "dns auth": outside.check_dns_auth,
    "dns api": outside.check_dns_api,
    "certificate": trust.check_certificate,
    "certificate chain": trust.check_chain,
    "acme": trust.check_acme,
    "reach base": outside.check_reach_base,
    "reach wildcard": outside.check_reach_wildcard,
    "reach ssh": outside.check_reach_ssh,
}


async def run_checks(inputs: Inputs) -> dict[str, Finding]:
    """Return what each check finds, in their order; takes at most a few of the limits of ``inputs``."""
    around = Surroundings(inputs)
    try:
        found = await asyncio.gather(*(_checked(check, around) for check in CHECKS.values()))
    finally:
        await around.aclose()
    return dict(zip(CHECKS, found, strict=True))


async def _checked(check: Callable[[Surroundings], Awaitable[Finding]], around: Surroundings) -> Finding:
    limit = around.limit * LOOKS
    try:
        async with asyncio.timeout(limit):
            return await check(around)
    except TimeoutError:
        return failed(f"the check is not done within {limit:g} s", "give it more time: --timeout")
    except Exception as error:  # the others go on
        return failed(f"the check itself fails: {error!r}", "please report this, with the settings in use")
