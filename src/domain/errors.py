"""Every error raised on purpose. ``code`` never changes; the text is for people and may."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from tunnel_server.domain.tunnel import Tunnel


class TunnelServerError(Exception):
    """Base of every error raised on purpose; ``code`` is API, the text is not."""

    code: ClassVar[str] = "internal"


class InvalidPublicKey(TunnelServerError):
    """A public key blob is malformed or of a type that names nobody here."""

    code: ClassVar[str] = "key.invalid"


class InvalidTunnelName(TunnelServerError):
    """A tunnel's name is empty."""

    code: ClassVar[str] = "forward.name"


class InvalidForwardRequest(TunnelServerError):
    """A forward request string has a parameter that is unknown or does not decode."""

    code: ClassVar[str] = "forward.invalid"


class DuplicateForward(TunnelServerError):
    """The same connection already holds this request or this label."""

    code: ClassVar[str] = "forward.duplicate"


class TooManyTunnels(TunnelServerError):
    """The connection already holds as many tunnels as one may."""

    code: ClassVar[str] = "forward.too-many"


class LabelTaken(TunnelServerError):
    """Another live connection already answers on this label; ``holder`` is its tunnel."""

    code: ClassVar[str] = "tunnel.label-taken"

    def __init__(self, holder: Tunnel) -> None:
        super().__init__(f"{holder.label!r} is already in use")
        self.holder = holder


class NameInUse(TunnelServerError):
    """A contested label stays with its live holder; the text is meant for the newcomer."""

    code: ClassVar[str] = "tunnel.name-in-use"


class UnknownCommand(TunnelServerError):
    """A client asked to execute something that is not one of the server's words."""

    code: ClassVar[str] = "session.unknown-command"


class InvalidHostKey(TunnelServerError):
    """The SSH host key cannot be read, decoded or kept."""

    code: ClassVar[str] = "settings.host-key"


class ChannelRefused(TunnelServerError):
    """No channel to the service could be opened."""

    code: ClassVar[str] = "channel.refused"


class InvalidCertificate(TunnelServerError):
    """A certificate, its key, the folder of certificates or the key log cannot be used; the text names the file."""

    code: ClassVar[str] = "settings.certificate"


class OrderFailed(TunnelServerError):
    """A CA gave no certificate. The text is for the log: bounded, and it may quote the CA.

    ``outage`` tells that it is no fault of the host, so that another would fail the same way. ``retry_after`` is how
    long the CA asked to be left alone, in seconds.
    """

    code: ClassVar[str] = "acme.order-failed"

    def __init__(self, reason: str, outage: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.outage = outage
        self.retry_after = retry_after


class InvalidProxyHeader(TunnelServerError):
    """What a trusted proxy sent is no PROXY protocol header that can be read; the text says why."""

    code: ClassVar[str] = "proxy-protocol.invalid"


class NotClientHello(TunnelServerError):
    """A connection's first octets are no ClientHello, or one that could be read in two ways; the text says why."""

    code: ClassVar[str] = "tls.client-hello"


class InvalidBaseUrl(TunnelServerError):
    """A base URL has something other than scheme, host and optional port."""

    code: ClassVar[str] = "settings.base-url"


class InvalidSetting(TunnelServerError):
    """A setting is unknown or its value is wrong; the text names it and gives an example."""

    code: ClassVar[str] = "settings.invalid"


class ListenerFailed(TunnelServerError):
    """A port could not be listened on."""

    code: ClassVar[str] = "listener.failed"


class InvalidSocket(TunnelServerError):
    """A socket that systemd has passed cannot be used; the text names it."""

    code: ClassVar[str] = "listener.invalid-socket"


class InvalidPlugin(TunnelServerError):
    """A plugin cannot be loaded or started; the text names it, and the hook if it is about one."""

    code: ClassVar[str] = "plugin.invalid"


class ForwardRejected(TunnelServerError):
    """A policy refuses the tunnel; the text is meant for its client."""

    code: ClassVar[str] = "forward.rejected"


class InvalidName(TunnelServerError):
    """A name that a plugin gave a tunnel is malformed or not to be had."""

    code: ClassVar[str] = "tunnel.invalid-name"
