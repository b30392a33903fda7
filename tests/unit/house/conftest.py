"""Real keys, real tokens, and a server that knows a few tunnels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from fakes.transport import FakeTransport
from joserfc import jwk, jwt
from joserfc.jws import JWSRegistry

from tunnel_server import BaseUrl, Client, ClientId, ForwardRequest, Request, Server, Thumbprint, Tunnel

NOW = 1_800_000_000.0


@dataclass
class FakeClock:
    """Stands still until it is told otherwise."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


class FakeServer(Server):
    """Knows the tunnels that it was given, and does nothing to anybody."""

    def __init__(self, base: str, *tunnels: Tunnel) -> None:
        self._base = BaseUrl.parse(base)
        self.live = list(tunnels)

    @property
    def base(self) -> BaseUrl:
        return self._base

    def clients(self) -> list[Client]:
        return [tunnel.client for tunnel in self.live]

    def tunnels(self) -> list[Tunnel]:
        return self.live

    def find(self, name: str) -> Tunnel | None:
        return next((tunnel for tunnel in self.live if name in tunnel.names), None)

    def of_profile(self, thumbprint: str) -> list[Tunnel]:
        return [tunnel for tunnel in self.live if str(tunnel.client.thumbprint) == thumbprint]

    def disconnect(self, client: Client, reason: str) -> None:
        raise AssertionError(reason)

    def close(self, tunnel: Tunnel, reason: str) -> None:
        raise AssertionError(reason)

    def spawn(self, work: Any) -> None:
        raise AssertionError(work)


class AnyAlgorithm(JWSRegistry):
    """Signs with whatever it is asked for."""

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


@dataclass
class Owner:
    """Who owns a key of SSH, and signs tokens with it."""

    key: asyncssh.SSHKey
    claims: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, kind: str = "ssh-ed25519") -> Owner:
        return cls(asyncssh.generate_private_key(kind))

    @property
    def blob(self) -> bytes:
        return self.key.public_data

    @property
    def thumbprint(self) -> str:
        return str(Thumbprint.from_public_key(self.blob))

    @property
    def public_pem(self) -> str:
        key = load_ssh_public_key(self.key.export_public_key())
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def token(self, algorithm: str = "EdDSA", header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token of an hour that names this key as its issuer, unless ``claims`` say otherwise."""
        said = {"iss": f"preevy://{self.thumbprint}", "iat": NOW, "exp": NOW + 3600} | claims
        return signed(
            jwk.import_key(self.key.export_private_key("pkcs8-pem"), _KINDS[algorithm[:2]]),
            {"alg": algorithm} | (header or {}),
            {name: value for name, value in said.items() if value is not None},
        )

    def client(self) -> Client:
        return Client(
            ClientId.from_public_key(self.blob), Thumbprint.from_public_key(self.blob), "env", "127.0.0.1", self.blob
        )

    def tunnel(self, request: str = "/web#access=private", *names: str) -> Tunnel:
        label, *others = names or (f"web-{ClientId.from_public_key(self.blob)}",)
        return Tunnel(label, ForwardRequest.parse(request), self.client(), FakeTransport(), NOW, tuple(others))


_KINDS: dict[str, Any] = {"Ed": "OKP", "ES": "EC", "RS": "RSA", "PS": "RSA"}


def signed(key: Any, header: dict[str, Any], claims: dict[str, Any]) -> str:
    return jwt.encode(header, claims, key, registry=AnyAlgorithm(strict_check_header=False))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def owner() -> Owner:
    return Owner.of()


@pytest.fixture(scope="session")
def stranger() -> Owner:
    return Owner.of()


@pytest.fixture
def owner_of() -> Callable[..., Owner]:
    """Return who owns a new key of a kind."""
    return Owner.of


@pytest.fixture
def sign() -> Callable[..., str]:
    """Return a function that signs ``header, claims`` with any key and any algorithm."""
    return signed


@pytest.fixture
def make_server() -> Callable[..., FakeServer]:
    return FakeServer


@pytest.fixture
def ask() -> Callable[..., Request]:
    """Return a function that makes a request of a path and whole fields."""

    def make(path: str = "/", *fields: str, host: str = "", method: str = "GET") -> Request:
        return Request(method, path, host, "http", "192.0.2.1", [f"{line}\r\n".encode("latin-1") for line in fields])

    return make
