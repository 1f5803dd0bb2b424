"""The heading, charts, the map, and how old figures look."""

from __future__ import annotations

import pytest
from rich.text import Text

from cli.top import pictures
from cli.top.polling import Reading
from cli.top.view import View
from tests.support.fleet_on_show import answers, large_fleet
from tests.support.top_views import drawn, stand_still, view_of


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)


def plain(markup: str) -> str:
    return Text.from_markup(markup).plain


def test_the_heading_says_whom_it_is_about_and_the_figures() -> None:
    told = plain(pictures.heading(view_of(), 200))
    assert told.startswith(
        "● 2 routers · 12 req/s · 40 in flight · 1 % failed · p50 84 ms · p99 610 ms · 2 waiting · 812"
    )
    assert plain(pictures.heading(view_of(), 200, paused=True)).startswith(" paused ")
    assert plain(pictures.heading(View(), 200)) == "waiting for the router"
    assert plain(pictures.heading(view_of(), 40)) == "● 2 routers · 12 req/s · 40 in flight", (
        "a figure is whole or not there"
    )


@pytest.mark.parametrize(
    ("fleet", "told"),
    [
        ({"scope": "all routers", "routers": ["a"], "silent": []}, "a"),
        ({"scope": "this router only", "routers": ["a"], "silent": []}, "a only"),
        ({"scope": "b only", "routers": ["b"], "silent": []}, "b"),
        (None, "edge-us-1"),
    ],
)
def test_scope(fleet: dict[str, object] | None, told: str) -> None:
    assert pictures.scope(answers()["GET", "/admin/v1/status"] | {"fleet": fleet}) == told


def test_what_else_is_wrong_is_said() -> None:
    known = answers()
    status = known["GET", "/admin/v1/status"]
    status["fleet"]["silent"] = ["edge-9"]
    status["store"]["state"] = "down"
    status["differences"] = ["us-east/c only on edge-eu-1"]
    status["troubles"] = ["edge-eu-1 is not ready"]
    status["router"]["config_refused"] = {"at_s": 1.0, "problems": ["x"]}
    told = plain(" ".join(pictures.notes(view_of(known))))
    for words in (
        "no answer from edge-9",
        "store down",
        "us-east/c only on edge-eu-1",
        "file is refused",
        "edge-eu-1 is not",
    ):
        assert words in told
    assert pictures.notes(view_of()) == []


def test_old_figures_say_how_old_and_why() -> None:
    view = view_of()
    assert pictures.staleness(view, 11.0) == ""
    assert pictures.staleness(view, 40.0) == "figures of 14:13:20, 30 s ago: the router is silent"
    view.take(Reading(trouble="cannot reach it"), 12.0, 0.0)
    assert pictures.staleness(view, 22.0) == "figures of 14:13:20, 12 s ago: cannot reach it"


def test_the_map_comes_where_there_is_room_else_the_charts_else_nothing() -> None:
    view = view_of(looks=30)
    found = pictures.overview(view, 120, 20, 0.0)
    assert found is not None
    picture, lines = found
    assert lines == len(drawn(picture).splitlines()) + 1 == 17, "and a blank line"
    assert "us-east" in drawn(picture)
    charts = pictures.overview(view, 80, 20, 0.0)
    assert charts is not None
    assert charts[1] == 5
    assert "first token" in drawn(charts[0], 80)
    assert pictures.overview(view, 40, 20, 0.0) is None
    assert pictures.overview(view, 120, 4, 0.0) is None


def test_thirty_regions_on_the_map() -> None:
    picture = pictures.overview(view_of(answers(large_fleet())), 200, 30, 0.0)
    assert picture is not None
    text = drawn(picture[0], 200)
    assert "ap-south-3 0" in text, "what is down is named first"
    assert text.count("●") >= 25
