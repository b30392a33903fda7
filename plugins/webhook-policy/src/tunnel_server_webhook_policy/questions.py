"""What the endpoint is asked: the JSON of each kind, and under which key its answer is kept."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from math import isfinite
from typing import Any

from tunnel_server import Certificate, Client, ForwardRequest, Request, Tunnel
from tunnel_server_webhook_policy.crowd import network

VERSION = 1
MAX_BODY = 64 * 1024  # octets; a visitor who sends more is not asked about


@dataclass(frozen=True, slots=True)
class Question:
    """One question. ``source`` is who caused it; ``key`` is the same for questions that have the same answer."""

    kind: str
    source: str
    content: dict[str, Any]
    key: bytes


def about_client(client: Client, certificate: Certificate | None) -> Question:
    """Ask whether a client may log in. Its answer counts for all addresses of its network."""
    source, told = network(client.address), client_json(client)
    shown = None if certificate is None else _certificate(certificate)
    key = _key({"client": {**told, "address": source}, "certificate": shown})
    return Question("client", source, {"client": told, "certificate": shown}, key)


def about_tunnel(client: Client, request: ForwardRequest, names: tuple[str, ...]) -> Question:
    """Ask whether a client may have a tunnel. The meta has to be one that :func:`is_json` takes."""
    wanted = {
        "name": request.name,
        "names": list(names),
        "access": str(request.access),
        "meta": meta_json(request.meta),
        "httpsOnly": request.https_only,
        "inject": [script.src for script in request.inject],
    }
    content = {"client": client_json(client), "tunnel": wanted}
    return Question("tunnel", network(client.address), content, _key(content))


@dataclass(frozen=True, slots=True)
class Telling:
    """What is told of a request: ``parts`` of its head, and which header ``fields``."""

    parts: tuple[str, ...] = ("method", "path", "visitor")
    fields: tuple[str, ...] = ()


def about_request(tunnel: Tunnel, request: Request, telling: Telling) -> Question:
    """Ask whether a request may pass. Answers are kept by all that is told, and by no more."""
    path, _, query = request.path.partition("?")
    all_parts = {
        "method": request.method,
        "host": request.host,
        "path": path,
        "query": query,
        "scheme": request.scheme,
        "visitor": request.visitor,
    }
    told: dict[str, Any] = {part: all_parts[part] for part in telling.parts}
    if telling.fields:
        told["headers"] = {name: values for name in telling.fields if (values := request.headers(name))}
    content = {"tunnel": tunnel_json(tunnel), "request": told}
    return Question("request", network(request.visitor), content, _key(content))


def client_json(client: Client) -> dict[str, Any]:
    """Return what is told of a client."""
    return {
        "id": str(client.id),
        "thumbprint": str(client.thumbprint),
        "fingerprint": _fingerprint(client.public_key),
        "publicKey": base64.b64encode(client.public_key).decode("ascii"),
        "user": client.user,
        "address": client.address,
        "attributes": dict(client.attributes),
    }


def tunnel_json(tunnel: Tunnel) -> dict[str, Any]:
    """Return what is told of a live tunnel; ``openedAt`` keeps it apart from its successor."""
    return {
        "names": list(tunnel.names),
        "access": str(tunnel.request.access),
        "meta": meta_json(tunnel.request.meta),
        "openedAt": tunnel.opened_at,
        "client": client_json(tunnel.client),
    }


def is_json(value: Any) -> bool:
    """Tell whether ``value`` can be told at all: a number such as 1e999 is read as infinity, which JSON has not."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


def meta_json(meta: Any) -> Any:
    """Return a tunnel's meta, ``None`` for what cannot be told."""
    return meta if is_json(meta) else None


def encode(value: Any) -> bytes:
    """Return JSON in its shortest form; what is no Unicode text is escaped."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _certificate(certificate: Certificate) -> dict[str, Any]:
    return {
        "authority": _fingerprint(certificate.authority),
        "keyId": certificate.key_id,
        "serial": certificate.serial,
        "principals": list(certificate.principals),
        "validAfter": certificate.valid_after,
        "validBefore": certificate.valid_before if isfinite(certificate.valid_before) else None,
    }


def _fingerprint(public_key: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(public_key).digest()).rstrip(b"=").decode("ascii")


def _key(content: dict[str, Any]) -> bytes:
    return hashlib.sha256(encode(content)).digest()  # so that long questions make no long keys
