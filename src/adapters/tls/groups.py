"""The groups that keys are agreed in: those of Mozilla's intermediate profile, the post-quantum hybrid before them.

Python's ssl sets one group or leaves OpenSSL's own list, until 3.15. So the list is set through the same library that
Python uses, found as what its module is linked with. Where that cannot be told for sure, OpenSSL's own list stays: it
is wider, and holds nothing that is broken.
"""

from __future__ import annotations

import platform
import ssl
import sys
from functools import cache
from typing import Any

GROUPS = "X25519:prime256v1:secp384r1"
HYBRID = "X25519MLKEM768"  # from OpenSSL 3.5 on
SESSIONS = 1024  # of clients that know no tickets, kept by a certificate; some 1 KiB each

_SET_SESSION_CACHE_SIZE = 42  # SSL_CTRL_SET_SESS_CACHE_SIZE
_SET_GROUPS_LIST = 92  # SSL_CTRL_SET_GROUPS_LIST
_TESTED = ((3, 11), (3, 14))  # versions of CPython whose SSLContext begins with a pointer to OpenSSL's


def limit_groups(context: ssl.SSLContext) -> bool:
    """Let ``context`` agree on keys in these groups only, and bound its sessions; false if it cannot be told to."""
    wanted = f"{HYBRID}:{GROUPS}" if ssl.OPENSSL_VERSION_INFO >= (3, 5) else GROUPS
    if hasattr(context, "set_groups"):
        context.set_groups(wanted)
        return True
    library = _openssl()
    if library is None:
        return False
    pointer = _pointer(context)
    if library.SSL_CTX_get_options(pointer) != context.options:
        return False
    library.SSL_CTX_ctrl(pointer, _SET_SESSION_CACHE_SIZE, SESSIONS, None)
    return bool(library.SSL_CTX_ctrl(pointer, _SET_GROUPS_LIST, 0, wanted.encode()) == 1)


def _pointer(context: ssl.SSLContext) -> int | None:
    import ctypes

    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value


@cache
def _openssl() -> Any:
    """Return the library that Python's ssl calls; ``None`` if there is a doubt that it is the one."""
    if platform.python_implementation() != "CPython" or not _TESTED[0] <= sys.version_info[:2] <= _TESTED[1]:
        return None
    try:
        import _ssl
        import ctypes

        library = ctypes.CDLL(_ssl.__file__)  # what is looked for in it is looked for in what it is linked with
        library.OpenSSL_version.restype = ctypes.c_char_p
        library.SSL_CTX_get_options.argtypes = [ctypes.c_void_p]
        library.SSL_CTX_get_options.restype = ctypes.c_uint64
        library.SSL_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_char_p]
        library.SSL_CTX_ctrl.restype = ctypes.c_long
    except (ImportError, AttributeError, OSError):
        return None
    return library if library.OpenSSL_version(0) == ssl.OPENSSL_VERSION.encode() else None
