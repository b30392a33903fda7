"""Reading limits."""

from __future__ import annotations

import pytest
from tunnel_server_quotas.limits import Limits, Pace, rate
from tunnel_server_quotas.settings import LIMITS, SETTINGS


@pytest.mark.parametrize(
    ("text", "per_second"), [("0", 0.0), ("10", 10.0), ("0.5", 0.5), ("30/m", 0.5), ("1/h", 1 / 3600), (" 7 / s ", 7.0)]
)
def test_a_rate_is_read_per_second(text: str, per_second: float) -> None:
    assert rate(text) == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["", "-1", "ten", "1e3", "inf", "nan", "5/d", "100001", "0.0001", "9" * 400, "١"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        rate(text)


def test_a_burst_of_nothing_is_what_comes_in_a_second() -> None:
    assert Pace(2.5, 0).slack == pytest.approx(Pace(2.5, 3).slack)
    assert Pace(0.1, 0).slack == pytest.approx(Pace(0.1, 1).slack)


def test_every_setting_has_its_place_in_the_limits() -> None:
    values = {setting.name: 1 + at for at, setting in enumerate(LIMITS)}

    limits = Limits.of(values)

    got = [limits.tunnels, limits.bytes_per_day]
    for pace in (limits.visitor, limits.tunnel, limits.key):
        got += [int(pace.per_second), pace.burst, pace.concurrent]
    assert got == list(values.values())


def test_every_default_limits_nothing() -> None:
    limits = Limits.of({setting.name: setting.default for setting in SETTINGS})

    assert limits.tunnels == 0
    assert not limits.limits_requests


def test_every_example_can_be_read() -> None:
    for setting in SETTINGS:
        assert setting.read(setting.example)
