"""The line about everything that is down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cli.top.alarms import alarm, down, is_down
from tests.support.fleet_on_show import NOW_S, backend, dead, large_fleet, small_fleet


def test_nothing_is_down() -> None:
    assert alarm([], 80, NOW_S) == ""
    healthy = small_fleet()[0]
    assert alarm([healthy], 80, NOW_S) == ""


def test_with_room_each_has_its_age_and_its_reason() -> None:
    assert alarm(small_fleet(), 200, NOW_S) == "1 down: eu-central/b (4m 12s, refused)"
    told = alarm(large_fleet(), 200, NOW_S)
    assert told.startswith("2 down: eu-west-3 (14m 00s, connection refused)"), "the longest first, a region as one"


def test_without_room_names_stay_and_then_the_number() -> None:
    assert alarm(large_fleet(), 60, NOW_S) == "2 down: eu-west-3 (14m 00s), ap-south-3 (12m 30s)"[:60]
    assert alarm(large_fleet(), 40, NOW_S) == "2 down: eu-west-3, ap-south-3"
    assert alarm(large_fleet(), 28, NOW_S) == "2 down: eu-west-3 and 1 more"
    assert alarm(large_fleet(), 10, NOW_S) == "2 down"


@given(st.integers(7, 300))
def test_it_is_never_too_long_and_always_says_how_many(room: int) -> None:
    told = alarm(large_fleet(), room, NOW_S)
    assert len(told) <= room
    assert told.startswith("2 down")


def test_on_purpose_is_not_down() -> None:
    assert is_down(dead("us/a", 3, "refused"))
    for wanted in ({"draining": True}, {"asleep": True}, {"leaving": {"in_s": 3}}, {"burning_in_s": 2.0}):
        assert not is_down(backend("us/a", usable=False, **wanted))
    assert not is_down(backend("us/a"))
    assert [name for name, _ in down(small_fleet())] == ["eu-central/b"]
