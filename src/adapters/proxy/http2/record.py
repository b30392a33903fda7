"""What is told of an exchange once it has ended: in the metrics, and in the access log."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from tunnel_server.domain.metrics import Outcome

if TYPE_CHECKING:
    from tunnel_server.adapters.proxy.relay import Relay, Reporter


class Record:
    """Notes of one exchange. ``outcome`` is how it ends, as far as is known; ``None`` once it was told."""

    __slots__ = ("_began", "_first_byte", "bytes_in", "bytes_out", "client_id", "outcome", "status")

    def __init__(self) -> None:
        self._began = perf_counter()
        self._first_byte: float | None = None
        self.outcome: Outcome | None = Outcome.ABORTED  # unless it goes better
        self.client_id: str | None = None
        self.status = 0
        self.bytes_in = self.bytes_out = 0

    def answered(self, status: int) -> None:
        """Note that the service's answer begins now."""
        self.status = status
        self._first_byte = perf_counter() - self._began

    def tell(self, relay: Relay, reporter: Reporter, outcome: Outcome) -> None:
        """Count the exchange; only the first time."""
        if self.outcome is None:
            return
        self.outcome = None
        relay.finished(
            reporter,
            self.client_id,
            self.status,
            outcome,
            self._began,
            self._first_byte,
            self.bytes_in,
            self.bytes_out,
        )
