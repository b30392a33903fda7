"""Makes the project of a new plugin."""

from __future__ import annotations

import re
import shutil
from importlib.metadata import version
from pathlib import Path
from string import Template

from tunnel_server.app.discovery import HOUSE
from tunnel_server.app.templates import code, project
from tunnel_server.domain.errors import InvalidPlugin

MAX_NAME = 40  # characters
PREFIX = "tunnel-server-"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def create(name: str, folder: Path) -> Path:
    """Make ``tunnel-server-<name>`` in ``folder`` and return it: a package with a hook, a setting and tests that pass.

    Raises:
        InvalidPlugin: the name is malformed or taken, there is such a folder already, or it cannot be written.
    """
    _check(name)
    target = folder / f"{PREFIX}{name}"
    try:
        target.mkdir()
    except FileExistsError:
        raise InvalidPlugin(f"{target} exists already; choose another name, or remove it") from None
    except OSError as error:
        raise InvalidPlugin(f"{target} cannot be made: {error.strerror}") from None
    try:
        _fill(target, name)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise InvalidPlugin(f"{target} cannot be written: {error.strerror}") from None
    return target


def _check(name: str) -> None:
    if name.startswith(PREFIX):
        raise InvalidPlugin(f"leave {PREFIX!r} out of the name: it is put in front of it")
    if len(name) > MAX_NAME or _NAME.fullmatch(name) is None:
        raise InvalidPlugin(
            f"{name[:80]!r} is no name for a plugin: small letters, digits and single hyphens between them, "
            f"a letter first, at most {MAX_NAME}; for example: my-policy"
        )
    if name in HOUSE:
        raise InvalidPlugin(f"{name} is a plugin of the server's own; choose another name")


def _fill(target: Path, name: str) -> None:
    lower = name.replace("-", "_")
    package = f"tunnel_server_{lower}"
    values = {"name": name, "package": package, "lower": lower, "setting": lower.upper(), "version": _version()}
    for path, text in _files(package, lower).items():
        file = target / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(values), encoding="utf-8")


def _files(package: str, lower: str) -> dict[str, str]:
    return {
        "pyproject.toml": project.PYPROJECT,
        "README.md": project.README,
        ".gitignore": project.GITIGNORE,
        ".github/workflows/test.yml": project.WORKFLOW,
        f"src/{package}/__init__.py": code.INIT,
        f"src/{package}/plugin.py": code.PLUGIN,
        f"src/{package}/py.typed": "",
        "tests/conftest.py": code.CONFTEST,
        f"tests/test_{lower}.py": code.TESTS,
    }


def _version() -> str:
    """Return the least version that the plugin needs: this one, without what was mended since."""
    return ".".join(version("tunnel-server").split(".")[:2])
