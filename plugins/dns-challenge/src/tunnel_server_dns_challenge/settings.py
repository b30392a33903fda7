"""The settings, as ``TUNNEL_SERVER_DNS_CHALLENGE_<NAME>``."""

from __future__ import annotations

from tunnel_server import Setting, reading


def _name(value: str) -> str:
    names = reading.plain_host_names(value)
    if len(names) > 1:
        raise ValueError("is more than one name")
    return names[0] if names else ""


SETTINGS = [
    Setting(
        name="listen_host",
        help="address to answer on, empty for all",
        example="192.0.2.1",
    ),
    Setting(
        name="port",
        help="port to answer on, UDP and TCP; port 53 of the public address has to lead there",
        default=8053,
        read=reading.whole(1, 65535),
        limits="1 to 65535",
    ),
    Setting(
        name="ns_name",
        help="name of this name server, which has to have an address; none: the base host",
        read=_name,
        example="ns-tunnels.example.com",
    ),
    Setting(
        name="zones",
        help="zones to answer for besides _acme-challenge.<base host>: those of other hosts, or where an alias leads",
        default=(),
        read=reading.plain_host_names,
        example="_acme-challenge.www.example.net",
    ),
]
