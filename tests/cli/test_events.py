"""``router events``: the history as a table, as it happens, and in the details of a region."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cli.client import Event
from cli.commands import events, regions
from cli.commands.events import EventsOptions
from cli.errors import CliError, Exit
from tests.cli.conftest import Json, Play

PATH = ("GET", "/admin/v1/events")
TAIL = ("TAIL", "/admin/v1/events/tail")


def event(number: int = 1, **changes: Any) -> Json:
    return {
        "id": f"edge-{number}",
        "at": "2026-11-30T06:00:00.000Z",
        "at_s": time.time() - 130,
        "router": "edge-1",
        "kind": "health",
        "subject": "us-east/a",
        "region": "us-east",
        "backend": "us-east/a",
        "from": "healthy",
        "to": "ejected",
        "why": "nobody answers: [red]connection refused",
        "who": None,
    } | changes


def options(**changes: Any) -> EventsOptions:
    base = {"follow": False, "since": None, "region": None, "backend": None, "kind": None, "router": None}
    return EventsOptions(**(base | {"limit": 50, "as_json": False} | changes))


def test_the_table_has_the_newest_at_the_bottom(play: Play) -> None:
    drain = event(2, kind="drain", subject="eu", why=None, who="anna", to="draining", at_s=time.time() - 5)
    play.admin.answers = {PATH: {"data": [drain, event(1)]}}
    events.run_list(play.context, options(kind="health,drain"))
    heading, first, last = play.out.splitlines()
    assert heading.split() == ["time", "ago", "kind", "subject", "change", "why", "who", "router"]
    assert "2m 10s  health  us-east/a  healthy → ejected   nobody answers: [red]connection refused" in first
    assert "drain" in last
    assert "anna" in last
    assert play.admin.calls == [("GET", "/admin/v1/events", {"limit": 50, "kind": "health,drain"})]


def test_since_is_a_span_and_a_full_answer_says_that_there_is_more(play: Play) -> None:
    play.admin.answers = {PATH: {"data": [event(1)]}}
    events.run_list(play.context, options(since="1h", limit=1))
    assert abs(play.admin.calls[0][2]["since_s"] - (time.time() - 3600)) < 60
    assert "--limit shows more" in play.err


def test_nothing_is_said_plainly(play: Play) -> None:
    play.admin.answers = {PATH: {"data": []}}
    events.run_list(play.context, options())
    assert play.err == "No events yet.\n"
    events.run_list(play.context, options(region="eu"))
    assert play.err.endswith("No such events.\n")


def test_json_is_the_document(play: Play) -> None:
    play.admin.answers = {PATH: {"data": [event(1)]}}
    events.run_list(play.context, options(as_json=True))
    assert json.loads(play.out)["data"][0]["to"] == "ejected"


def test_following_goes_on_through_a_restart_and_shows_nothing_twice(play: Play) -> None:
    streams: Iterator[Any] = iter(
        [
            [Event(json.dumps(event(1)), "event"), Event(json.dumps(event(2)), "event")],
            CliError("gone", code=Exit.UNREACHABLE),
            [Event(json.dumps(event(2)), "event"), Event(json.dumps(event(3)), "event")],
        ]
    )
    asked: list[dict[str, Any]] = []

    def tail(path: str, **query: object) -> Iterator[Event]:
        asked.append(query)
        answer = next(streams, None)
        if answer is None:
            raise KeyboardInterrupt
        if isinstance(answer, CliError):
            raise answer
        yield from answer

    play.admin.tail = tail  # type: ignore[method-assign]
    events.run_follow(play.context, options(follow=True, as_json=True), sleep=lambda _: None)
    assert [json.loads(line)["id"] for line in play.out.splitlines()] == ["edge-1", "edge-2", "edge-3"]
    assert (asked[0]["past"], asked[0]["since_s"]) == (10, None)
    assert asked[1]["past"] == 1000
    assert asked[1]["since_s"] < time.time() - 100
    assert "lost; waiting" in play.err


def test_a_router_that_is_not_there_at_all_is_an_error(play: Play) -> None:
    play.admin.answers = {TAIL: CliError("cannot reach it", code=Exit.UNREACHABLE)}
    with pytest.raises(CliError):
        events.run_follow(play.context, options(follow=True), sleep=lambda _: None)


def test_a_region_shows_its_last_events(play: Play, region: Any, backend: Any) -> None:
    view = region(backends=[backend("us-east/a"), backend("us-east/b")])
    play.admin.answers = {("GET", "/admin/v1/regions"): {"data": [view]}, PATH: {"data": [event(1)]}}
    regions.run_show(play.context, regions.NameOptions("us-east", as_json=False))
    assert "healthy → ejected" in play.out
    assert play.admin.calls[-1] == ("GET", "/admin/v1/events", {"limit": 10, "region": "us-east"})
