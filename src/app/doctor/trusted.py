"""The list of CAs that the environment names, looked at before it is read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunnel_server.domain.errors import InvalidSetting


def check_list_of_cas(environ: Mapping[str, str]) -> None:
    """Check that SSL_CERT_FILE can be read to its end; to be done before anything is imported that speaks TLS, which
    reads it meanwhile, of a pipe for ever. One that is not there is no harm.

    Raises:
        InvalidSetting: it is no file.
    """
    path = environ.get("SSL_CERT_FILE", "")
    try:
        wrong = path and Path(path).exists() and not Path(path).is_file()
    except (OSError, ValueError):  # as good as not there
        return
    if wrong:
        raise InvalidSetting(f"SSL_CERT_FILE: {path!r} is no file; give one of CA certificates, PEM, or none at all")
