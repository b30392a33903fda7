"""An endpoint behind TLS."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tunnel_server import Accept, Client, Reject

MakeClient = Callable[..., Client]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A file with a key and its certificate for 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "endpoint of the tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "pair.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
async def url(pair: Path) -> AsyncIterator[str]:
    """The address of an endpoint that accepts every client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)

    async def accept(_: web.Request) -> web.Response:
        return web.json_response({"decision": "accept"})

    app = web.Application()
    app.router.add_post("/hook", accept)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}/hook"
    await runner.cleanup()


async def test_an_endpoint_whose_ca_is_known_is_believed(
    url: str, pair: Path, make_plugin: Any, make_client: MakeClient
) -> None:
    plugin = await make_plugin(url=url, ca_file=str(pair), insecure="none")

    assert isinstance(await plugin.authenticate_client(make_client(), None), Accept)


async def test_another_is_not(url: str, make_plugin: Any, make_client: MakeClient, count: Any) -> None:
    plugin = await make_plugin(url=url, insecure="none")

    assert isinstance(await plugin.authenticate_client(make_client(), None), Reject)
    assert count(plugin, "asks_total", outcome="unreachable") == 1
