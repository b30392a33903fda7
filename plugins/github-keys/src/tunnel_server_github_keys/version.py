"""The version of this plugin."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version

try:
    VERSION = _version("tunnel-server-github-keys")
except PackageNotFoundError:
    VERSION = "unknown"
