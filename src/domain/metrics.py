"""What the server counts."""

from __future__ import annotations

from abc import abstractmethod
from enum import StrEnum
from typing import Protocol

from tunnel_server.domain.ports import TunnelEvents


class Outcome(StrEnum):
    """How a visitor's request ended."""

    ANSWERED = "answered"  # by the service, whatever its status
    REFUSED = "refused"  # the access rules keep the visitor out, or send it elsewhere
    NO_TUNNEL = "no_tunnel"
    UNREACHABLE = "unreachable"  # the service behind the tunnel broke or refused the connection
    BAD_REQUEST = "bad_request"
    ABORTED = "aborted"  # the visitor left
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"


class HandshakeMetrics(Protocol):
    """Hears of each connection that came to the port for TLS."""

    @abstractmethod
    def handshake(self, outcome: str) -> None:
        """A handshake ended: ``done``, ``failed``, ``timeout``, ``aborted``, ``displaced``,
        ``no_certificate`` or ``not_tls``.
        """


class CertificateMetrics(Protocol):
    """Hears of certificates by their source; quick, and never raises."""

    @abstractmethod
    def certificate_expires(self, source: str, not_after: float) -> None:
        """The certificate of ``source`` is served now; it ends at ``not_after``, in seconds of the epoch."""

    @abstractmethod
    def certificate_gone(self, source: str) -> None:
        """The certificate of ``source`` is served no more."""

    @abstractmethod
    def certificate_refused(self, source: str) -> None:
        """What ``source`` holds now cannot be used; a certificate that it held before stays."""


class AcmeMetrics(Protocol):
    """Counts; both are quick and never raise."""

    @abstractmethod
    def acme_order(self, outcome: str) -> None:
        """An order ended: ``issued`` or ``failed``; or was not made, as its limits or state forbid: ``refused``."""

    @abstractmethod
    def acme_waiting(self, hosts: int) -> None:
        """So many hosts wait for their first order since visitors asked for them."""


class PluginMetrics(Protocol):
    """Hears of what plugins do wrong; quick, and never raises."""

    @abstractmethod
    def plugin_failed(self, plugin: str, hook: str, kind: str) -> None:
        """A plugin's hook ``raised``, met its ``timeout``, returned ``nonsense``, was ``slow``, or its event was
        ``dropped``. It may be told from another thread.
        """


class Metrics(TunnelEvents, HandshakeMetrics, CertificateMetrics, AcmeMetrics, PluginMetrics):
    """Counts; every method is quick and never raises. Durations are seconds."""

    @abstractmethod
    def client_connected(self, client_id: str) -> None:
        """A client logged in."""

    @abstractmethod
    def client_disconnected(self, client_id: str) -> None:
        """A client that had logged in is gone."""

    @abstractmethod
    def login(self, outcome: str) -> None:
        """An SSH connection was ``accepted``, or ended before it was: ``failed``."""

    @abstractmethod
    def packet_path(self, lean: bool) -> None:
        """SSH packets are handled on the lean path wherever a client's cipher allows it, or none is."""

    @abstractmethod
    def forward_rejected(self, code: str) -> None:
        """A forward was refused, for the error ``code``."""

    @abstractmethod
    def visitor_connected(self) -> None:
        """A visitor's connection was accepted."""

    @abstractmethod
    def visitor_disconnected(self) -> None:
        """A visitor's connection is gone, or was handed to the control plane."""

    @abstractmethod
    def request_finished(
        self,
        client_id: str | None,
        status: int,
        outcome: Outcome,
        seconds: float,
        first_byte: float | None,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """A request ended; ``client_id`` is that of its tunnel, ``status`` 0 if none was sent."""

    @abstractmethod
    def channel_opened(self, seconds: float) -> None:
        """A channel to a service was opened within ``seconds``."""

    @abstractmethod
    def channel_closed(self) -> None:
        """A channel that had been opened is gone."""

    @abstractmethod
    def queue_waited(self, seconds: float) -> None:
        """A request waited for its turn."""
