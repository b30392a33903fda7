"""What a client asks to be published: ``/<name>[#<key>=<value>[;<key>=<value>]…]``."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn, Self

from tunnel_server.domain.errors import InvalidForwardRequest
from tunnel_server.domain.tunnel import Access

MAX_REQUEST = 32 * 1024  # characters; OpenSSH sends at most 107, other clients any number
MAX_SCRIPTS = 100
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*={0,2}")


@dataclass(frozen=True, slots=True)
class Script:
    """A script to put into the HTML answers of a tunnel whose path matches ``path_regex``."""

    src: str
    is_async: bool = False
    is_defer: bool = False
    path_regex: str | None = None


@dataclass(frozen=True, slots=True)
class ForwardRequest:
    """A parsed forward request. ``text`` is the original, on which clients match their channels.

    ``meta`` is any JSON value. ``https_only`` (``https=only``) sends visitors who come without TLS to HTTPS. An
    empty ``name`` can be parsed, and is refused where it needs a label.
    """

    text: str
    name: str
    access: Access = Access.PUBLIC
    meta: Any = None
    inject: tuple[Script, ...] = ()
    https_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a request; one leading ``/`` is no part of the name.

        Raises:
            InvalidForwardRequest: naming the parameter that is wrong.
        """
        if len(text) > MAX_REQUEST:
            raise InvalidForwardRequest(f"the request is longer than {MAX_REQUEST} characters")
        path, hash_mark, tail = text.partition("#")
        access, meta, https_only = Access.PUBLIC, None, False
        inject: tuple[Script, ...] = ()
        seen: set[str] = set()
        for parameter in tail.split(";") if hash_mark else ():
            key, _, value = parameter.partition("=")
            if key in seen:
                raise InvalidForwardRequest(f"param {key!r} twice in request {_short(text)}")
            seen.add(key)
            match key:
                case "access":
                    access = _access(value, text)
                case "meta":
                    meta = _json(value, "meta")
                case "inject":
                    inject = _scripts(_json(value, "inject"), value)
                case "https":
                    https_only = _only(value, text)
                case _:
                    raise InvalidForwardRequest(f"invalid param {_short(key)} in request {_short(text)}")
        return cls(text, path.removeprefix("/"), access, meta, inject, https_only)

    def format(self) -> str:
        """Return a request that parses to these values."""
        parameters = []
        if self.access is not Access.PUBLIC:
            parameters.append(f"access={self.access}")
        if self.https_only:
            parameters.append("https=only")
        if self.meta is not None:
            parameters.append(f"meta={_encode(self.meta)}")
        if self.inject:
            parameters.append(f"inject={_encode([_as_json(script) for script in self.inject])}")
        return f"/{self.name}" + (f"#{';'.join(parameters)}" if parameters else "")


def _access(value: str, text: str) -> Access:
    try:
        return Access(value)
    except ValueError:
        raise InvalidForwardRequest(
            f"invalid access {_short(value)} in request {_short(text)}, allowed values: private, public"
        ) from None


def _only(value: str, text: str) -> bool:
    if value != "only":
        raise InvalidForwardRequest(f"invalid https {_short(value)} in request {_short(text)}, allowed values: only")
    return True


def _json(value: str, key: str) -> Any:
    """Decode base64url JSON (RFC 4648 §5, padding optional; RFC 8259)."""
    try:
        if not value or _BASE64URL.fullmatch(value) is None:
            raise ValueError
        octets = base64.b64decode(
            value.rstrip("=") + "=" * (-len(value.rstrip("=")) % 4), altchars=b"-_", validate=True
        )
        return json.loads(octets.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, binascii.Error, RecursionError):
        raise InvalidForwardRequest(f"invalid {key} in request: {_short(value)}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _scripts(found: Any, value: str) -> tuple[Script, ...]:
    if not isinstance(found, list) or len(found) > MAX_SCRIPTS:
        raise InvalidForwardRequest(f"invalid inject in request: {_short(value)}: not a list of at most {MAX_SCRIPTS}")
    return tuple(_script(entry) for entry in found)


def _script(entry: Any) -> Script:
    if not isinstance(entry, dict) or entry.keys() - {"src", "async", "defer", "pathRegex"}:
        raise InvalidForwardRequest("invalid inject in request: an entry has src, and may have async, defer, pathRegex")
    src, pattern = entry.get("src"), entry.get("pathRegex")
    is_async, is_defer = entry.get("async", False), entry.get("defer", False)
    if not isinstance(src, str) or not src:
        raise InvalidForwardRequest("invalid inject in request: src is text that is not empty")
    if not isinstance(is_async, bool) or not isinstance(is_defer, bool):
        raise InvalidForwardRequest("invalid inject in request: async and defer are true or false")
    if pattern is not None and not isinstance(pattern, str):
        raise InvalidForwardRequest("invalid inject in request: pathRegex is text")
    return Script(src, is_async, is_defer, pattern)


def _as_json(script: Script) -> dict[str, Any]:
    entry: dict[str, Any] = {"src": script.src}
    if script.is_async:
        entry["async"] = True
    if script.is_defer:
        entry["defer"] = True
    if script.path_regex is not None:
        entry["pathRegex"] = script.path_regex
    return entry


def _encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode("ascii")).rstrip(b"=").decode("ascii")


def _short(text: str) -> str:
    return repr(text if len(text) <= 120 else text[:120] + "…")
