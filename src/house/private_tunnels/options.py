"""The settings of private tunnels, read and checked."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tunnel_server import Setting, reading
from tunnel_server.house.private_tunnels.keys import Unusable, VerificationKey, of_pem

KEY_FILE = Path("/etc/certs/preview-proxy/saas.key.pub")  # where the reference server looks for it
MAX_KEY_FILE = 64 * 1024  # octets
MAX_SECRETS = 16
PREEVY = "preevy://"  # how the issuer of a token begins that a client's own key signed


@dataclass(frozen=True, slots=True)
class LoginService:
    """Where visitors sign in. ``url`` has no ``/`` at its end; an empty one is none to send anybody to."""

    issuer: str
    key: VerificationKey | None = None
    url: str = ""

    @property
    def origin(self) -> str:
        """The origin of its pages (RFC 6454 §6.2)."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}" if self.url else ""


@dataclass(frozen=True, slots=True)
class Options:
    """The values. Of ``secrets`` the first signs and all verify; ``per_host`` gives each host a session of its own."""

    secrets: tuple[str, ...]
    service: LoginService
    per_host: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any], key_file: Path = KEY_FILE) -> Self:
        """Take the settings' values; without a key in them ``key_file`` is read, if there is one.

        Raises:
            ValueError: the file cannot be read or has no key in it.
        """
        pem = settings["saas_public_key"] or _contents(key_file)
        service = LoginService(settings["saas_jwt_issuer"], of_pem(pem) if pem else None, settings["saas_base_url"])
        return cls(
            settings["cookie_secrets"] or (secrets.token_urlsafe(32),), service, settings["session_scope"] == "host"
        )


def declared() -> Sequence[Setting]:
    """Return the settings' declarations."""
    return [
        Setting(
            name="cookie_secrets",
            env="COOKIE_SECRETS",
            help="Secrets that sign the cookies of sessions. The first signs, all verify. Empty: a random one every "
            "start, which ends all sessions.",
            default=(),
            read=cookie_secrets,
            limits=f"separated by spaces, at most {MAX_SECRETS}; 32 random characters each are good ones",
            secret=True,
        ),
        Setting(
            name="saas_public_key",
            env="SAAS_PUBLIC_KEY",
            help=f"Public key of an external login service. Empty: what `{KEY_FILE}` holds, if it exists.",
            read=public_key,
            limits="PEM text of an RSA, Ed25519 or P-256, P-384 or P-521 key; `\\n` may stand for the ends of lines",
            secret=True,  # nor is what was put here by mistake, such as the private one
        ),
        Setting(
            name="saas_jwt_issuer",
            env="SAAS_JWT_ISSUER",
            help="Issuer (`iss`) of the login service's tokens.",
            default="app.livecycle.run",
            read=issuer,
        ),
        Setting(
            name="saas_base_url",
            env="SAAS_BASE_URL",
            help="Where the login service is: visitors who are not signed in are sent to `/api/auth/login` there. "
            "Empty: they are told that they are not.",
            read=service_url,
            example="https://app.example.com",
            limits="an `http` or `https` URL without query",
        ),
        Setting(
            name="session_scope",
            help="Whether a session is good for all tunnels of a client under the base host (`base`), or for one host "
            "(`host`), which a base host on the public suffix list needs.",
            default="base",
            read=reading.choice("base", "host"),
            limits="`base` or `host`",
        ),
    ]


def cookie_secrets(value: str) -> tuple[str, ...]:
    """Secrets separated by spaces."""
    found = tuple(dict.fromkeys(value.split()))
    if len(found) > MAX_SECRETS:
        raise ValueError(f"has more than {MAX_SECRETS} secrets")
    return found


def public_key(value: str) -> str:
    """PEM text with a key that can verify tokens; ``\\n`` may stand for the ends of lines, as in files of variables."""
    pem = value.replace("\\n", "\n").strip()
    if pem:
        of_pem(pem)
    return pem


def issuer(value: str) -> str:
    """An issuer that cannot be taken for a client's key."""
    found = reading.text(value.strip())
    if not found:
        raise ValueError("is empty")
    if found.startswith(PREEVY):
        raise ValueError(f"begins with {PREEVY}, as the issuers of clients do")
    return found


def service_url(value: str) -> str:
    """The URL of a login service, without a ``/`` at its end; empty for none."""
    url = reading.text(value.strip()).rstrip("/")
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound or not url.isascii() or set(url) & set(' \\"<>?#@'):
        raise ValueError("is not an http or https URL without query, fragment or user")
    return url


def _contents(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_FILE).decode("ascii")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} cannot be read: {error}") from None
