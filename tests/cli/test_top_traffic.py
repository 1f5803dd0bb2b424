"""Keys, requests and events as rows."""

from __future__ import annotations

import pytest

from cli.top import traffic
from cli.top.once import table
from cli.top.sheets import matching
from tests.support.fleet_on_show import NOW_S
from tests.support.top_views import drawn, stand_still, view_of


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)


def test_the_dearest_key_is_first_and_one_that_was_refused_wants_attention() -> None:
    sheet = traffic.keys(view_of())
    assert [r.key for r in sheet.rows] == ["key_3", "key_2", "key_1"]
    assert [r.alarm for r in sheet.rows] == [1, 0, 0]
    text = drawn(table(sheet), 200)
    assert "$3.93" in text
    assert "90 % of requests_per_minute" in text


def test_requests_in_flight_stand_before_those_that_ended() -> None:
    sheet = traffic.requests(view_of())
    assert [r.about["status"] for r in sheet.rows[:5]] == ["live", "live", "live", "live", "200"]
    text = drawn(table(sheet), 200)
    assert "first token expected after 80 ms" in text, "it is late"
    assert "waiting" in text
    late = sheet.rows[2]
    assert late.alarm == 1


def test_requests_can_be_asked_for_by_their_status_and_key() -> None:
    rows = traffic.requests(view_of()).rows
    assert [r.about["status"] for r in filter(matching("status:5xx"), rows)] == ["502"]
    assert {r.about["key"] for r in filter(matching("key:key_3"), rows)} == {"key_3"}
    assert len(list(filter(matching("status:live"), rows))) == 4


def test_events_say_when_what_why_and_who() -> None:
    text = drawn(table(traffic.events(view_of(), NOW_S)), 160)
    first, *_ = text.splitlines()[1:]
    assert first.split()[:2] == ["14:12:37", "43"]
    assert "healthy → ejected" in first
    assert "anna" in text
