"""The scenarios by name, in the order in which they run. Each is a function of the Bench."""

from scenarios.growth import growth
from scenarios.idle import idle5000, memory
from scenarios.mixed import mixed, mixed_closed
from scenarios.requests import close, many, small, ws
from scenarios.setup import setup
from scenarios.streams import slow, stream
from scenarios.tls import flood, handshakes, https

SCENARIOS = {
    "small": small,
    "close": close,
    "stream": stream,
    "ws": ws,
    "setup": setup,
    "memory": memory,
    "idle5000": idle5000,
    "many": many,
    "slow": slow,
    "mixed": mixed,
    "mixed-closed": mixed_closed,
    "https": https,
    "handshakes": handshakes,
    "flood": flood,
    "growth": growth,
}
