"""Looks at each thing once, however many checks want to know of it."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar, cast

from tunnel_server.adapters.checkup import directory, resolver, ssh, web
from tunnel_server.adapters.checkup.aside import aside
from tunnel_server.adapters.checkup.binding import could_listen
from tunnel_server.adapters.checkup.trouble import EXPECTED, trouble_of
from tunnel_server.adapters.control.plane import INSTANCE
from tunnel_server.adapters.ssh.listener import SOFTWARE_VERSION
from tunnel_server.app.doctor.inputs import Inputs
from tunnel_server.domain.diagnosis.dns import Resolved, is_address, is_local
from tunnel_server.domain.diagnosis.finding import quoted
from tunnel_server.domain.diagnosis.ports import Holder, Listening
from tunnel_server.domain.diagnosis.trouble import Kind
from tunnel_server.domain.setting_types import Network

T = TypeVar("T")

_METRIC = b"tunnel_server_"  # how the names of our metrics begin
_THIS_MACHINE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}


class Surroundings:
    """What is around one server. To be closed at the end: a look may still be under way."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.settings = inputs.settings
        self.base = inputs.base
        self.limit = inputs.how.limit
        self.random_host = f"doctor-{secrets.token_hex(6)}.{inputs.base.hostname}"
        self._looks: dict[str, asyncio.Task[Any]] = {}

    async def aclose(self) -> None:
        """Give up all looks."""
        for look in self._looks.values():
            look.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)

    async def _once(self, name: str, look: Callable[[], Coroutine[object, object, T]]) -> T:
        if name not in self._looks:
            self._looks[name] = asyncio.create_task(look())
        # Shielded, since a check that is given up takes no other with it.
        return await asyncio.shield(cast("asyncio.Task[T]", self._looks[name]))

    # names

    async def resolved(self, host: str) -> Resolved:
        """Return what a name resolves to; those of this machine, and addresses, by definition."""
        if is_local(host):
            return await self.local(self.settings.listen_host)
        return await self._resolved(host)

    async def local(self, host: str) -> Resolved:
        """Return by which address this machine gets to its own port that listens on ``host``."""
        return await self._resolved(_THIS_MACHINE.get(host, host))

    async def _resolved(self, host: str) -> Resolved:
        if is_address(host):
            return Resolved(host, (host.strip("[]"),))
        return await self._once(f"dns {host}", lambda: resolver.resolve(host, self.limit))

    # ports

    async def http(self) -> Listening:
        """Return what is on the HTTP port."""
        return await self._port("PORT", self.settings.listen_host, self.settings.port, self._ask_http)

    async def ssh(self) -> Listening:
        """Return what is on the SSH port."""
        ask = partial(self._ask_ssh, self.settings.ssh_proxy_protocol)
        return await self._port("SSH_PORT", self.settings.listen_host, self.settings.ssh_port, ask)

    async def tls(self) -> Listening:
        """Return what is on the TLS port, which answers to SSH clients without any certificate, too."""
        if not self.settings.has_certificate():
            return Listening("TLS_PORT", "", 0, Holder.UNKNOWN, "there is no certificate, so it is not served")
        ask = partial(self._ask_ssh, self.settings.tls_proxy_protocol)
        return await self._port("TLS_PORT", self.settings.listen_host, self.settings.tls_port, ask)

    async def metrics(self) -> Listening:
        """Return what is on the metrics port."""
        return await self._port(
            "METRICS_PORT", self.settings.metrics_host, self.settings.metrics_port, self._ask_metrics
        )

    async def runs(self) -> bool:
        """Return whether this server was found on any port."""
        looks = (self.http(), self.ssh(), self.tls(), self.metrics())
        found = await asyncio.gather(*looks, return_exceptions=True)
        return any(isinstance(port, Listening) and port.holder is Holder.OURS for port in found)

    async def _port(
        self, setting: str, host: str, port: int, ask: Callable[[str, int], Coroutine[object, object, tuple[str, str]]]
    ) -> Listening:
        if not port:
            detail = f"{setting} is 0: the system chooses a port, which is in the server's log"
            return Listening(setting, host, port, Holder.UNKNOWN, detail)
        return await self._once(setting, lambda: self._look_at(Listening(setting, host, port, Holder.OTHER), ask))

    async def _look_at(
        self, port: Listening, ask: Callable[[str, int], Coroutine[object, object, tuple[str, str]]]
    ) -> Listening:
        own = await self.local(port.host)
        if not own.addresses:
            return replace(port, holder=Holder.NOT_HERE, detail=f"no address to listen on: {own.problem}")
        address = own.addresses[0]
        try:
            identity, other = await ask(address, port.port)
        except EXPECTED as error:
            trouble = trouble_of(error, self.limit)
            holder, detail = Holder.OTHER, f"something answers that is not this server: {trouble.text}"
            if trouble.kind in (Kind.REFUSED, Kind.UNREACHABLE):
                place = port.host if not port.host or is_address(port.host) else address
                holder, detail = await aside(partial(could_listen, place, port.port), self.limit)
            return replace(port, holder=holder, detail=detail)
        return replace(port, holder=Holder.OTHER if other else Holder.OURS, detail=other, identity=identity)

    async def _ask_http(self, address: str, port: int) -> tuple[str, str]:
        preface = told(address, self.settings.http_proxy_protocol)
        question = web.Question(self.base.hostname, self.base.effective_port, "/readyz", preface=preface)
        answer = await web.ask(address, port, question, self.limit)
        instance = answer.fields.get(INSTANCE.lower(), "")
        return instance, "" if instance else f"something answers that is not this server: {described(answer)}"

    async def _ask_ssh(self, proxies: tuple[Network, ...], address: str, port: int) -> tuple[str, str]:
        found = await ssh.greeting(address, port, told(address, proxies), self.limit)
        if found.banner != f"SSH-2.0-{SOFTWARE_VERSION}":
            return found.fingerprint, f"another SSH server answers: {quoted(found.banner)}"
        return found.fingerprint, "" if found.fingerprint else "an SSH server answers and shows no host key"

    async def _ask_metrics(self, address: str, port: int) -> tuple[str, str]:
        answer = await web.ask(address, port, web.Question(address, port, "/metrics"), self.limit)
        return "", "" if _METRIC in answer.body else f"something answers without our metrics: {described(answer)}"

    # the CA, and whom visitors trust

    async def directory(self) -> float | None:
        """Fetch the CA's directory; return how many seconds our clock is behind its. Raises as that does."""
        return await self._once("directory", self._read_directory)

    async def _read_directory(self) -> float | None:
        file = self.settings.acme_ca_file
        trust = await self._list(partial(web.only, Path(file))) if file else await self.everybody()
        return await aside(partial(directory.read, self.settings.acme, trust, self.limit), self.limit)

    async def everybody(self) -> ssl.SSLContext:
        """Return how visitors verify.

        Raises:
            OSError, ValueError: there is no list of CAs that can be read.
        """
        return await self._once("everybody", lambda: self._list(web.everybody))

    async def visitors(self) -> ssl.SSLContext:
        """Return how visitors verify, in development those who trust its CA; raises as ``everybody`` does."""
        return await self._once("visitors", self._visitors) if self.settings.dev_tls else await self.everybody()

    async def _visitors(self) -> ssl.SSLContext:
        authority = Path(self.settings.dev_tls_folder) / "ca.pem"
        return await self._list(lambda: web.only(authority) if authority.exists() else web.everybody())

    async def _list(self, read: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        try:
            return await aside(read, self.limit)
        except TimeoutError:
            raise ValueError(f"the list of CAs cannot be read within {self.limit:g} s (see SSL_CERT_FILE)") from None


def told(address: str, proxies: tuple[Network, ...]) -> bytes:
    """Return what one that connects from ``address`` has to send first."""
    try:
        balancer = any(ip_address(address) in network for network in proxies)
    except ValueError:  # a name
        balancer = False
    return web.PROXY_UNKNOWN if balancer else b""


def described(answer: web.Answer) -> str:
    """Return an answer in a few words."""
    server = answer.fields.get("server")
    location = answer.fields.get("location")
    whose = f" from {quoted(server)}" if server else ""
    return f"status {answer.status}{whose}" + (f" to {quoted(location)}" if location else "")
