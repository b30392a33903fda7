"""The settings of this plugin."""

from __future__ import annotations

from tunnel_server import Setting, reading
from tunnel_server_quotas.limits import MAX_COUNT, MAX_RATE, SCOPES, rate

_WHOSE = {
    "visitor": "one visitor may ask of the tunnels of one key",
    "tunnel": "one tunnel may be asked",
    "key": "all tunnels of one key may be asked",
}


def _of_scope(scope: str) -> list[Setting]:
    return [
        Setting(
            name=f"requests_per_second_per_{scope}",
            help=f"Requests per second that {_WHOSE[scope]}; 0 is no limit.",
            default=0.0,
            read=rate,
            example="10",
            limits=f"0, or 1/h to {MAX_RATE:g}; a decimal number, or one with /s, /m or /h",
        ),
        Setting(
            name=f"burst_per_{scope}",
            help="Requests that may come at once of those; 0 is as many as come in a second.",
            default=0,
            read=reading.whole(0, MAX_COUNT),
            example="30",
            limits=f"0 to {MAX_COUNT}",
        ),
        Setting(
            name=f"concurrent_requests_per_{scope}",
            help=f"Requests that may run at a time of those that {_WHOSE[scope]}; 0 is no limit.",
            default=0,
            read=reading.whole(0, MAX_COUNT),
            example="20",
            limits=f"0 to {MAX_COUNT}",
        ),
    ]


LIMITS = (
    Setting(
        name="tunnels_per_key",
        help="Tunnels that one key may have, over all its connections; 0 is no limit.",
        default=0,
        read=reading.whole(0, MAX_COUNT),
        example="10",
        limits=f"0 to {MAX_COUNT}",
    ),
    Setting(
        name="bytes_per_day",
        help="Bytes that the tunnels of one key may transfer on one day (UTC), in both directions; 0 is no limit.",
        default=0,
        read=reading.size(1, 1 << 60, or_none=True),
        example="10GiB",
        limits="0 to 1 EiB",
    ),
    *(setting for scope in SCOPES for setting in _of_scope(scope)),
)

FILES = (
    Setting(
        name="exceptions_file",
        help="A TOML file with other limits for certain keys, read again when it changes; none if empty.",
        example="/etc/tunnel-server/quotas.toml",
    ),
    Setting(
        name="state_file",
        help="A file that keeps the bytes of the day over a restart; none if empty: they begin at 0 then.",
        example="/var/lib/tunnel-server/quotas",
    ),
)

SETTINGS = (*LIMITS, *FILES)
