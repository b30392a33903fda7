"""Checks of how others get here: names, and the ways they lead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace

from tunnel_server.adapters.checkup import ssh, web
from tunnel_server.adapters.checkup.resolver import is_here
from tunnel_server.adapters.checkup.trouble import EXPECTED, trouble_of
from tunnel_server.adapters.control.plane import INSTANCE
from tunnel_server.adapters.proxy.answers import NO_TUNNEL
from tunnel_server.app.doctor.surroundings import Surroundings, described
from tunnel_server.domain.diagnosis import dns, reach
from tunnel_server.domain.diagnosis.finding import Finding, quoted, skipped
from tunnel_server.domain.diagnosis.ports import Holder, Listening
from tunnel_server.domain.diagnosis.reach import Goal, Way

MAX_WAYS = 8  # addresses of one name that are tried

Ask = Callable[[str], Coroutine[object, object, str]]  # an address -> what is wrong with the answer there


async def check_dns_base(around: Surroundings) -> Finding:
    """Check what the base host resolves to."""
    if dns.is_local(around.base.hostname):
        return skipped(dns.nameless(around.base.hostname))
    return dns.base(await around.resolved(around.base.hostname))


async def check_dns_wildcard(around: Surroundings) -> Finding:
    """Check what a label that nobody has a record for resolves to."""
    if reason := dns.nameless(around.base.hostname):
        return skipped(reason)
    return dns.wildcard(*await asyncio.gather(*map(around.resolved, (around.base.hostname, around.random_host))))


async def check_dns_auth(around: Surroundings) -> Finding:
    """Check that the host of the login pages is not kept from the wildcard."""
    return await _reserved(around, "auth")


async def check_dns_api(around: Surroundings) -> Finding:
    """Check that the host of the API is not kept from the wildcard."""
    return await _reserved(around, "api")


async def _reserved(around: Surroundings, label: str) -> Finding:
    if reason := dns.nameless(around.base.hostname):
        return skipped(reason)
    hosts = around.random_host, f"{label}.{around.base.hostname}"
    return dns.reserved(*await asyncio.gather(*map(around.resolved, hosts)))


async def check_reach_base(around: Surroundings) -> Finding:
    """Check that the base URL leads to this very server, by each address."""
    http, base = await around.http(), around.base
    if http.holder is not Holder.OURS:
        return _unknown(http)

    async def ask(address: str) -> str:
        question = await _question(around, base.hostname)
        answer = await web.ask(address, base.effective_port, question, around.limit)
        instance = answer.fields.get(INSTANCE.lower())
        if instance is None:
            return f"something answers that is not this server: {described(answer)}"
        return "" if instance == http.identity else "another tunnel server answers, or this one before a restart"

    url = f"{base.root_url}healthz"
    goal = Goal(f"GET {url}", f"curl -i {url}", _path(around), base.hostname)
    return await _reached(around, base.hostname, goal, ask)


async def check_reach_wildcard(around: Surroundings) -> Finding:
    """Check that the URL of a label that no tunnel has leads to a server that says so."""
    base, host = around.base, around.random_host
    http = await around.http()
    if http.holder is not Holder.OURS:
        return _unknown(http)
    if dns.is_address(base.hostname) or (dns.is_local(base.hostname) and base.scheme == "https"):
        return skipped(f"no label below {base.hostname} has a name or certificate of its own")

    async def ask(address: str) -> str:
        question = await _question(around, host)
        if question.trust is not None and around.settings.acme_labels:
            # A label's certificate is ordered once a tunnel has it and a visitor comes: this one never gets any.
            question = replace(question, trust=web.anybody())
        answer = await web.ask(address, base.effective_port, question, around.limit)
        redirected = base.scheme == "http" and around.settings.force_https and answer.status == 308
        if redirected or (answer.status == 502 and NO_TUNNEL.encode() in answer.body):
            return ""
        return f"something else answers, or a proxy puts a page of its own in place: {described(answer)}"

    url = base.tunnel_url(host.partition(".")[0])
    goal = Goal(f"GET {url.replace(host, f'*.{base.hostname}')}", f"curl -i {url}", _path(around), f"*.{base.hostname}")
    return await _reached(around, host, goal, ask)


async def check_reach_ssh(around: Surroundings) -> Finding:
    """Check that the SSH port at the base host shows this server's host key."""
    own, host = await around.ssh(), around.base.hostname
    if own.holder is not Holder.OURS:
        return _unknown(own)

    async def ask(address: str) -> str:
        found = await ssh.greeting(address, own.port, b"", around.limit)
        shown = f"another host key: {found.fingerprint}" if found.fingerprint else "no host key is shown"
        return "" if found.fingerprint == own.identity else f"{shown} ({quoted(found.banner)})"

    path = f"port {own.port} of {host} has to lead to SSH_PORT ({own.port})"
    goal = Goal(f"SSH to {host} port {own.port}", f"ssh-keyscan -p {own.port} {host.strip('[]')}", path, host)
    return await _reached(around, host, goal, ask, reach.by_other_port)


def _unknown(port: Listening) -> Finding:
    """Say why it cannot be told who should answer."""
    if port.holder is Holder.UNKNOWN:
        return skipped(port.detail)
    return skipped(f"the server does not answer on {port.setting}: start it, or see the checks of its ports")


async def _question(around: Surroundings, host: str) -> web.Question:
    trust = await around.visitors() if around.base.scheme == "https" else None
    return web.Question(host, around.base.effective_port, trust=trust)


def _path(around: Surroundings) -> str:
    settings, base = around.settings, around.base
    leads = f"port {base.effective_port} of {base.hostname} and *.{base.hostname} has to lead to"
    if base.scheme == "http":
        return f"{leads} PORT ({settings.port})"
    if settings.has_certificate():
        return f"{leads} TLS_PORT ({settings.tls_port})"
    return f"{leads} a proxy that does TLS, and that to PORT ({settings.port})"


async def _reached(
    around: Surroundings, host: str, goal: Goal, ask: Ask, judge: Callable[[Goal, list[Way]], Finding] = reach.judge
) -> Finding:
    found = await around.resolved(host)
    if not found.addresses:
        return skipped(f"{goal.host} has no address (see `dns base` and `dns wildcard`)")
    ways = await asyncio.gather(*(_way(around, address, ask) for address in found.addresses[:MAX_WAYS]))
    return judge(goal, ways)


async def _way(around: Surroundings, address: str, ask: Ask) -> Way:
    try:
        wrong = await ask(address)
    except EXPECTED as error:
        return Way(address, is_here(address), trouble=trouble_of(error, around.limit))
    return Way(address, is_here(address), ours=not wrong, answer=wrong)
