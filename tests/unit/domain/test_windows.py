from __future__ import annotations

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunnel_server.domain.windows import LARGEST, LONG, SMALLEST, START, Windows

MIB = 1 << 20
LIMIT = 64 * MIB  # the default of the setting channel_memory
ROUND_TRIP = 0.05  # seconds


def over_a_link(round_trip: float, limit: int = LIMIT) -> tuple[Windows, int]:
    """Return the windows of a connection whose round trip is known, and the window of its first channel."""
    windows = Windows(limit)
    windows.measured(round_trip)
    return windows, windows.open()


def following(windows: Windows, window: int, rate: float) -> int:
    """Return what follows ``window`` once all but a third of it came at ``rate``, in bytes a second."""
    left = window // 3
    return windows.next(window, left, (window - left) / rate)


def just_enough(window: int, round_trip: float = ROUND_TRIP) -> float:
    """Return the rate, in bytes a second, at which ``window`` is used up in one round trip."""
    return window / round_trip


# opening and closing


def test_a_connections_first_channels_start_with_the_same_small_window() -> None:
    windows = Windows(LIMIT)

    opened = [windows.open() for _ in range(8)]

    assert opened == [START] * 8
    assert windows.free == LIMIT - 8 * START


def test_the_more_is_promised_the_smaller_is_the_window_of_a_new_channel() -> None:
    windows = Windows(LIMIT)

    opened = [windows.open() for _ in range(700)]

    assert opened == sorted(opened, reverse=True)
    assert opened[0] == START
    assert SMALLEST <= opened[-1] < START // 8


def test_more_than_seven_hundred_channels_fit_and_then_none() -> None:
    windows = Windows(LIMIT)
    opened = []

    while window := windows.open():
        opened.append(window)

    assert len(opened) > 700
    assert sum(opened) + windows.free == LIMIT
    assert windows.free < SMALLEST
    assert windows.open() == 0
    assert sum(opened) + windows.free == LIMIT  # and a refusal costs nothing


@pytest.mark.parametrize("free", [0, 1, SMALLEST - 1, SMALLEST, SMALLEST + 1, 2 * SMALLEST])
def test_a_channel_gets_the_smallest_window_or_none(free: int) -> None:
    windows = Windows(free)

    assert windows.open() == (SMALLEST if free >= SMALLEST else 0)


def test_a_channel_that_closes_gives_its_whole_window_back() -> None:
    windows = Windows(LIMIT)
    opened = []
    while window := windows.open():
        opened.append(window)

    for window in opened:
        windows.close(window)

    assert windows.free == LIMIT
    assert windows.open() == START


def test_a_window_that_grew_is_given_back_as_it_is_and_not_as_it_was() -> None:
    windows, first = over_a_link(ROUND_TRIP)
    grown = following(windows, first, just_enough(first))

    windows.close(grown)

    assert grown == 2 * START
    assert windows.free == LIMIT


# growing


def test_a_window_doubles_when_it_is_used_up_within_a_round_trip() -> None:
    windows, window = over_a_link(ROUND_TRIP)

    grown = following(windows, window, just_enough(window))

    assert grown == 2 * window
    assert windows.free == LIMIT - grown


@pytest.mark.parametrize(("share", "factor"), [(0.49, 1), (0.51, 2), (0.13, 1), (1.0, 2), (100.0, 2)])
def test_a_window_grows_only_once_a_round_trips_worth_exceeds_its_half(share: float, factor: float) -> None:
    windows, window = over_a_link(ROUND_TRIP)

    assert following(windows, window, just_enough(window) * share) == window * factor


@pytest.mark.parametrize("round_trip", [0.000_01, LONG / 2, LONG * 0.999])
def test_a_window_never_grows_on_a_short_link_however_quick(round_trip: float) -> None:
    windows, window = over_a_link(round_trip)

    for _ in range(10):
        window = following(windows, window, 1e12)

    assert window == START


def test_a_window_does_not_grow_before_a_round_trip_was_measured() -> None:
    windows = Windows(LIMIT)
    window = windows.open()

    assert windows.round_trip == inf
    assert following(windows, window, 1e12) == window


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_window_stays_when_no_time_has_passed(seconds: float) -> None:
    windows, window = over_a_link(ROUND_TRIP)

    assert windows.next(window, 0, seconds) == window


def test_a_window_ends_at_the_largest_and_needs_at_most_six_steps() -> None:
    windows, window = over_a_link(ROUND_TRIP)
    steps = [window]

    for _ in range(10):
        window = following(windows, window, 1e12)
        steps.append(window)

    assert steps[:6] == [min(START << n, LARGEST) for n in range(6)]
    assert set(steps[5:]) == {LARGEST}
    assert windows.free == LIMIT - LARGEST


def test_a_window_leaves_a_quarter_of_all_to_new_channels() -> None:
    windows, window = over_a_link(ROUND_TRIP)
    windows.free = LIMIT // 4 + 1000  # others hold all the rest

    grown = following(windows, window, 1e12)

    assert (grown, windows.free) == (window + 1000, LIMIT // 4)
    assert following(windows, grown, 1e12) == grown


def test_a_window_that_started_smaller_than_others_neither_grows_nor_shrinks() -> None:
    windows, _ = over_a_link(ROUND_TRIP, limit=MIB)
    window = windows.open()

    assert window < START
    assert following(windows, window, 1e12) == window
    assert following(windows, window, 1.0) == window


# shrinking


@pytest.mark.parametrize(("share", "factor"), [(0.124, 0.5), (0.126, 1), (0.0001, 0.5)])
def test_a_window_halves_once_less_than_an_eighth_of_it_would_do(share: float, factor: float) -> None:
    windows, window = over_a_link(ROUND_TRIP)
    while window < LARGEST:
        window = following(windows, window, 1e12)

    shrunk = following(windows, window, just_enough(window) * share)

    assert shrunk == window * factor
    assert windows.free == LIMIT - shrunk


def test_a_window_never_shrinks_below_its_start() -> None:
    windows, window = over_a_link(ROUND_TRIP)
    window = following(windows, window, 1e12)

    sizes = []
    for _ in range(3):
        window = following(windows, window, 1.0)
        sizes.append(window)

    assert sizes == [START, START, START]
    assert windows.free == LIMIT - START


def test_what_a_shrunk_window_gives_back_is_there_for_others() -> None:
    windows, window = over_a_link(ROUND_TRIP)
    window = following(windows, window, 1e12)
    free = windows.free

    window = following(windows, window, 1.0)

    assert windows.free == free + START


# the round trip


def test_only_the_shortest_round_trip_counts_since_a_queue_makes_it_longer() -> None:
    windows = Windows(LIMIT)

    for seconds in (0.3, 0.05, 0.7):
        windows.measured(seconds)

    assert windows.round_trip == 0.05


# all of it together

actions = st.one_of(
    st.just(("open",)),
    st.tuples(st.just("close"), st.integers(0, 1000)),
    st.tuples(
        st.just("next"),
        st.integers(0, 1000),
        st.floats(0, 0.499),
        st.one_of(st.just(0.0), st.floats(1e-6, 1e3)),
    ),
    st.tuples(st.just("measured"), st.floats(1e-6, 2.0)),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([MIB, 3 * MIB + 17, LIMIT, 2 * LIMIT]), st.lists(actions, max_size=120))
def test_all_windows_together_never_exceed_the_limit_whatever_happens(
    limit: int, steps: list[tuple[object, ...]]
) -> None:
    windows, held = Windows(limit), []

    for step in steps:
        match step:
            case ("open",):
                if window := windows.open():
                    held.append(window)
            case ("close", int(at)) if held:
                windows.close(held.pop(at % len(held)))
            case ("next", int(at), float(left), float(seconds)) if held:
                at %= len(held)
                before = held[at]
                held[at] = windows.next(before, int(before * left), seconds)
                assert held[at] <= 2 * before
            case ("measured", float(seconds)):
                windows.measured(seconds)

        assert windows.free >= 0
        assert sum(held) + windows.free == limit
        assert all(SMALLEST <= window <= LARGEST for window in held)


@pytest.mark.parametrize("downloads", [1, 8, 30])
def test_downloads_that_want_all_there_is_leave_room_for_a_new_channel(downloads: int) -> None:
    windows, first = over_a_link(ROUND_TRIP)
    held = [first] + [windows.open() for _ in range(downloads - 1)]

    for _ in range(8):
        held = [following(windows, window, 1e12) for window in held]

    assert sum(held) <= LIMIT
    assert windows.open() >= SMALLEST
