"""Checks of certificates, and of the way to get them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from tunnel_server.adapters.checkup import ssh, web
from tunnel_server.adapters.checkup.aside import aside
from tunnel_server.adapters.checkup.trouble import EXPECTED, trouble_of
from tunnel_server.adapters.control.plane import INSTANCE
from tunnel_server.adapters.tls.contexts import TlsOptions
from tunnel_server.adapters.tls.watch import Watch
from tunnel_server.app.container import certificate_sources
from tunnel_server.app.doctor.surroundings import Surroundings, described, told
from tunnel_server.app.keeping import goes_with
from tunnel_server.app.settings import Settings
from tunnel_server.domain.certificates import covered, covers
from tunnel_server.domain.diagnosis import acme, certificate, chain
from tunnel_server.domain.diagnosis.acme import Proof
from tunnel_server.domain.diagnosis.certificate import Held, Needs
from tunnel_server.domain.diagnosis.dns import is_address, is_local
from tunnel_server.domain.diagnosis.finding import Finding, skipped
from tunnel_server.domain.diagnosis.ports import Holder
from tunnel_server.domain.diagnosis.trouble import Trouble
from tunnel_server.domain.errors import InvalidCertificate

MAX_HOSTS = 16  # of those that a CA is asked for, looked at


async def check_certificate(around: Surroundings) -> Finding:
    """Check that the certificates that are configured can be used, are for our names, and are in their time."""
    settings, base = around.settings, around.base
    if settings.dev_tls:
        return certificate.development(str(Path(settings.dev_tls_folder) / "ca.pem"))
    if is_local(base.hostname) and not settings.has_certificate():
        return skipped("this machine alone needs none")
    held, problem = await _held(around)
    needs = Needs(base.hostname, base.scheme == "https", settings.acme_hosts, settings.acme_labels)
    return certificate.judge(held, problem, needs, time.time())


async def _held(around: Surroundings) -> tuple[list[Held], str]:
    try:
        return await aside(partial(_read, around.settings), around.limit), ""
    except InvalidCertificate as error:
        return [], str(error)
    except TimeoutError:
        return [], f"the files of certificates cannot be read within {around.limit:g} s"


def _read(settings: Settings) -> list[Held]:
    found = Watch(certificate_sources(settings), TlsOptions(), time.time).first().found
    return [Held(each.source, each.names, each.not_before, each.not_after) for each in found]


async def check_chain(around: Surroundings) -> Finding:
    """Check by a handshake on the TLS port that a visitor would trust what is shown there."""
    tls = await around.tls()
    if around.settings.dev_tls:
        return skipped("a certificate for development leads to no CA that visitors know")
    if tls.holder is not Holder.OURS:
        return skipped(tls.detail if tls.holder is Holder.UNKNOWN else "the server does not run on the TLS port")
    hosts = [around.base.hostname]
    held, _ = await _held(around)
    promised = covered([*(name for each in held for name in each.names), *around.settings.acme_hosts])
    if not is_address(around.base.hostname) and covers(promised, around.random_host):
        hosts.append(around.random_host)
    troubles = await asyncio.gather(*(_shown(around, host, tls.port) for host in hosts))
    return chain.judge(list(zip(hosts, troubles, strict=True)))


async def _shown(around: Surroundings, host: str, port: int) -> Trouble | None:
    own = await around.local(around.settings.listen_host)
    preface = told(own.addresses[0], around.settings.tls_proxy_protocol)
    try:
        question = web.Question(host, port, trust=await around.everybody(), preface=preface)
        await web.ask(own.addresses[0], port, question, around.limit)
    except EXPECTED as error:
        return trouble_of(error, around.limit)
    return None


async def check_acme(around: Surroundings) -> Finding:
    """Check that the CA can be reached, and gets here by the hosts that it is asked to sign."""
    settings = around.settings
    if not settings.acme:
        return skipped("no CA is asked for certificates")
    try:
        await around.directory()
    except EXPECTED as error:
        return acme.judge(settings.acme, trouble_of(error, around.limit).text, (), False)
    dns = "dns-01" in settings.acme_challenges and "dns_challenge" in around.inputs.hooks
    http = await around.http()
    hosts = settings.acme_hosts[:MAX_HOSTS] if http.holder is Holder.OURS else ()
    proofs = await asyncio.gather(*(_proof(around, host) for host in hosts))
    lost_with = await aside(partial(goes_with, Path(settings.acme_folder)), around.limit)
    return acme.judge(settings.acme, "", proofs, dns, lost_with)


async def _proof(around: Surroundings, host: str) -> Proof:
    if host.startswith("*."):
        return Proof(host, ())
    ways = {"http-01": web.Question(host, 80), "tls-alpn-01": web.Question(host, 443, trust=web.anybody())}
    wanted = [kind for kind in ways if kind in around.settings.acme_challenges]
    answers = await asyncio.gather(*(_answer(around, ways[kind]) for kind in wanted))
    return Proof(host, tuple(zip(wanted, answers, strict=True)))


async def _answer(around: Surroundings, question: web.Question) -> str:
    """Return why a CA that asks so would not get to this server; empty if it would."""
    found = await around.resolved(question.host)
    if not found.addresses:
        return found.problem
    address = found.addresses[0]
    try:
        if question.trust is not None and await _is_tls_port(around, address, question.port):
            return ""
        if not await _answers(around, question.host):
            # Its answers are a tunnel's, which may say what it likes: whether the port leads here, the base host tells.
            question = replace(question, host=around.base.hostname)
        answer = await web.ask(address, question.port, question, around.limit)
    except EXPECTED as error:
        return trouble_of(error, around.limit).text
    return "" if await _is_ours(around, answer) else f"another answers: {described(answer)}"


async def _is_tls_port(around: Surroundings, address: str, port: int) -> bool:
    """Return whether SSH clients get to the TLS port there, which has to have no certificate yet for that."""
    own = await around.tls()
    if own.holder is not Holder.OURS:
        return False
    try:
        return (await ssh.greeting(address, port, b"", around.limit)).fingerprint == own.identity
    except EXPECTED:
        return False


async def _answers(around: Surroundings, host: str) -> bool:
    """Return whether it is the server itself, and no tunnel, that answers here for ``host``."""
    own = await around.local(around.settings.listen_host)
    preface = told(own.addresses[0], around.settings.http_proxy_protocol)
    asked = web.Question(host, 80, preface=preface)
    return await _is_ours(around, await web.ask(own.addresses[0], around.settings.port, asked, around.limit))


async def _is_ours(around: Surroundings, answer: web.Answer) -> bool:
    return answer.fields.get(INSTANCE.lower()) == (await around.http()).identity
