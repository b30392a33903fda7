"""What plugin authors test with: a real server in this process, with plugins loaded, and clients of both kinds.

With pytest: ``pytest_plugins = ["tunnel_server.testing"]`` in ``conftest.py`` gives the fixture ``tunnel_server``.
Without: :func:`run_server` is the same as an async context manager. Both need a running asyncio loop; ports are the
system's choice, on loopback only.

PYTEST_DONT_REWRITE: nothing here asserts, and a test may import this before pytest does.
"""

from tunnel_server.testing.apps import App
from tunnel_server.testing.clients import Refused
from tunnel_server.testing.server import Published, RunningServer, run_server
from tunnel_server.testing.visits import Answer
from tunnel_server.testing.waiting import until

__all__ = ["Answer", "App", "Published", "Refused", "RunningServer", "run_server", "until"]

try:
    from tunnel_server.testing.fixture import tunnel_server
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
else:
    __all__ += ["tunnel_server"]
