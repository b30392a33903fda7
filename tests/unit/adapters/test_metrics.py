from __future__ import annotations

import re
from pathlib import Path

from tunnel_server.adapters.metrics.prometheus import PrometheusMetrics
from tunnel_server.domain.metrics import Outcome

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_the_page_lists_exactly_what_is_exposed() -> None:
    metrics = PrometheusMetrics()
    metrics.login("accepted")
    metrics.forward_rejected("forward.name")
    metrics.request_finished("k", 200, Outcome.ANSWERED, 0.1, 0.05, 10, 20)

    text = metrics.render()[0].decode()
    exposed = {
        name
        + ("_total" if kind == "counter" and name.startswith("tunnel_server") and not name.endswith("_total") else "")
        for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    }

    assert exposed == set(re.findall(r"^\| `([A-Za-z_]+)` \|", PAGE.read_text(), re.MULTILINE))


def test_durations_are_counted_in_cumulated_buckets() -> None:
    metrics = PrometheusMetrics()
    for seconds in (0.0005, 0.003, 0.003, 100.0):
        metrics.channel_opened(seconds)

    text = metrics.render()[0].decode()

    assert 'tunnel_server_channel_open_seconds_bucket{le="0.001"} 1.0' in text
    assert 'tunnel_server_channel_open_seconds_bucket{le="0.005"} 3.0' in text
    assert 'tunnel_server_channel_open_seconds_bucket{le="+Inf"} 4.0' in text
    assert "tunnel_server_channel_open_seconds_count 4.0" in text


def test_the_compatible_counter_is_named_as_dashboards_read_it() -> None:
    metrics = PrometheusMetrics()
    metrics.client_connected("abc")
    metrics.request_finished("abc", 200, Outcome.ANSWERED, 0.1, None, 1, 2)
    series = 'requests{clientId="abc",serviceName="preevy-tunnel-server"} 1\n'

    assert "# TYPE requests counter\n" + series in metrics.render()[0].decode()

    metrics.client_disconnected("abc")
    metrics.request_finished("abc", 200, Outcome.ANSWERED, 0.1, None, 1, 2)

    assert "abc" not in metrics.render()[0].decode()
