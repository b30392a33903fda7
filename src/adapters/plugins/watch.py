"""Notices a plugin that keeps the event loop: while nothing can stop it, the log says who it is."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from tunnel_server.domain.metrics import PluginMetrics

SLOW = 0.05  # seconds a plugin may keep the loop before it is named afterwards
BLOCKED = 1.0  # seconds after which it is named while it still does
LOOK = 0.25  # seconds between looks

log = structlog.get_logger()


class Watch:
    """Knows which plugin has the loop, and since when. Looks from a thread of its own while entered."""

    def __init__(self, metrics: PluginMetrics) -> None:
        self._metrics = metrics
        self._current: tuple[str, str, float] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self, plugin: str, hook: str) -> tuple[str, str, float] | None:
        """A plugin has the loop from now on; give what is returned to :meth:`leave`."""
        before, self._current = self._current, (plugin, hook, perf_counter())
        return before

    def leave(self, before: tuple[str, str, float] | None) -> None:
        """It is done; name it if that took long."""
        current, self._current = self._current, before
        if current is not None and perf_counter() - current[2] > SLOW:
            plugin, hook, since = current
            self._metrics.plugin_failed(plugin, hook, "slow")
            log.warning("plugin.slow", plugin=plugin, hook=hook, seconds=round(perf_counter() - since, 3))

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._look, name="plugin-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        named = None
        while not self._stop.wait(LOOK):
            current = self._current
            if current is not None and current is not named and perf_counter() - current[2] > BLOCKED:
                named = current
                plugin, hook, since = current
                log.error("plugin.blocks", plugin=plugin, hook=hook, seconds=round(perf_counter() - since, 1))
