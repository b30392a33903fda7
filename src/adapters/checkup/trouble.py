"""Errors of the network, put into words."""

from __future__ import annotations

import asyncio
import errno
import ssl

from tunnel_server.domain.diagnosis.finding import quoted
from tunnel_server.domain.diagnosis.trouble import Kind, Trouble

EXPECTED = (OSError, EOFError, ValueError, asyncio.LimitOverrunError)  # what talking to a stranger may raise
_NO_WAY = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENETDOWN}


def trouble_of(error: Exception, limit: float) -> Trouble:
    """Return what ``error`` means for somebody who waited up to ``limit`` seconds."""
    match error:
        case ssl.SSLCertVerificationError():
            return Trouble(Kind.UNTRUSTED, f"certificate: {quoted(error.verify_message)}", error.verify_code)
        case ssl.SSLError():
            return Trouble(Kind.OTHER, f"no TLS: {quoted(str(error.reason or error))}")
        case TimeoutError():
            return Trouble(Kind.SILENT, f"no answer within {limit:g} s")
        case ConnectionRefusedError():
            return Trouble(Kind.REFUSED, "connection refused")
        case OSError() if error.errno in _NO_WAY:
            return Trouble(Kind.UNREACHABLE, "no way there from this machine")
        case asyncio.IncompleteReadError() | ConnectionError():
            return Trouble(Kind.OTHER, "the connection was closed without an answer")
        case asyncio.LimitOverrunError():
            return Trouble(Kind.OTHER, "the answer has no end")
        case _:
            return Trouble(Kind.OTHER, quoted(str(error)) or type(error).__name__)
