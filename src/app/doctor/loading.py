"""Loads plugins in a process of their own, so that none can hang or end the doctor, or print into its report."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from tunnel_server.app.plugins import load
from tunnel_server.app.settings import Settings
from tunnel_server.domain.errors import InvalidPlugin, InvalidSetting

PLUGINS_WITHIN = 20.0  # seconds; a plugin may ask somebody at its start
GIVEN_UP_AFTER = 2.0  # seconds more, for one that catches what interrupts it


@dataclass(frozen=True, slots=True)
class Found:
    """The settings, what the plugins are called, which hooks they have, and how many secrets sign cookies."""

    settings: Settings
    plugins: tuple[str, ...]
    hooks: frozenset[str]
    cookie_secrets: int


class PluginTimeout(BaseException):
    """A plugin takes too long. No ``Exception``, for a plugin that catches those would try again for ever."""


def load_apart(flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None) -> Found:
    """Return what `run` would be given, within ``PLUGINS_WITHIN + GIVEN_UP_AFTER`` seconds whatever a plugin does.

    Raises:
        InvalidSetting: with a line for each setting that is unknown or wrong.
        InvalidPlugin: a plugin cannot be loaded, does not take its settings, takes too long or ends the process.
    """
    context = multiprocessing.get_context("fork")  # a new Python would take a second to get where this one is
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send, args=(sender, flags, environ, file))
    child.start()
    sender.close()  # so that the receiver knows when the child ends
    try:
        if not receiver.poll(PLUGINS_WITHIN + GIVEN_UP_AFTER):
            raise InvalidPlugin(f"a plugin takes longer than {PLUGINS_WITHIN:g} s and cannot be interrupted")
        found = cast("Found | InvalidSetting | InvalidPlugin", receiver.recv())
    except EOFError:
        raise InvalidPlugin("the process that loads the plugins ended: one of them may have ended it") from None
    finally:
        child.kill()  # a thread of a plugin may go on
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(cast("int", child.pid), signal.SIGKILL)  # so may a program that one started, on our output
        child.join()
        receiver.close()
    if isinstance(found, Exception):
        raise found
    return found


def _send(sender: Connection, flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None) -> None:
    os.setpgid(0, 0)
    os.dup2(2, 1)  # what a plugin prints is not to be taken for a finding
    sys.stdout = sys.stderr
    found: Found | InvalidSetting | InvalidPlugin
    try:
        with _interrupted_after(PLUGINS_WITHIN):
            found = _load(flags, environ, file)
    except (InvalidSetting, InvalidPlugin) as error:
        found = error
    except PluginTimeout as error:  # outside of what tells whose code it is
        found = InvalidPlugin(f"a plugin cannot be loaded: {error}")
    sender.send(found)


def _load(flags: Mapping[str, str], environ: Mapping[str, str], file: Path | None) -> Found:
    loaded = load(flags, environ, file).start()
    names = tuple(plugin.name for plugin in loaded.plugins.plugins)
    hooks = frozenset(hook for name in names for hook in loaded.plugins.hooks_of(name))
    secrets = len(loaded.of_plugins.get("private-tunnels", {}).get("cookie_secrets", ()))
    return Found(loaded.settings, names, hooks, secrets)


@contextlib.contextmanager
def _interrupted_after(seconds: float) -> Iterator[None]:
    def over(number: int, frame: object) -> None:
        raise PluginTimeout(f"it takes longer than {seconds:g} s")

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
