"""The program: tabs, filter, pause, looks, a router that goes away, who may do what."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip("textual", reason="make install: Textual is missing")

from rich.segment import Segment

from cli.commands.top import TABS
from cli.top.app import Top
from tests.support.fleet_on_show import answers, large_fleet
from tests.support.top_screens import press, settled, showing, text_of


async def test_every_tab_by_number_by_tab_and_by_mouse() -> None:
    async with showing(answers(), (80, 24)) as (app, pilot, _, _):
        for number, tab in enumerate(TABS, 1):
            await press(app, pilot, str(number))
            assert app.tab == tab
        await press(app, pilot, "tab")
        assert app.tab == TABS[0]
        await press(app, pilot, "shift+tab")
        assert app.tab == TABS[-1]
        await pilot.click("#tabs", offset=(15, 0))
        await settled(app, pilot)
        assert app.tab == "backends"


async def test_a_filter_holds_while_figures_change_and_escape_ends_it() -> None:
    async with showing(answers(), (80, 24), tab="requests") as (app, pilot, _, _):
        await press(app, pilot, "slash", *"status:5xx")
        assert [row.about["status"] for row in app.grid.rows] == ["502"], "while one types"
        await press(app, pilot, "enter")
        app.look()
        await settled(app, pilot)
        assert len(app.grid.rows) == 1
        assert "filter: status:5xx" in text_of(app)
        await press(app, pilot, "escape")
        assert len(app.grid.rows) == 28


async def test_while_paused_nothing_is_asked() -> None:
    async with showing(answers(), (80, 24)) as (app, pilot, admin, clock):
        await press(app, pilot, "p")
        asked = len(admin.asked)
        clock.now_s += 100.0
        app.look()
        await settled(app, pilot)
        assert len(admin.asked) == asked
        text = text_of(app)
        assert "paused" in text
        assert "figures of" not in text, "one wanted it so"
        await press(app, pilot, "space")
        assert len(admin.asked) > asked


def grey(app: Top, word: str) -> bool:
    """The word stands on the screen in a dim style, or without a colour."""
    for strip in app.screen._compositor.render_strips():
        for segment in strip:
            assert isinstance(segment, Segment)
            if word in segment.text:
                return segment.style is not None and bool(segment.style.dim)
    raise AssertionError(f"{word} is not there")


async def test_a_router_that_goes_away_leaves_grey_figures_and_comes_back() -> None:
    async with showing(answers(), (100, 30)) as (app, pilot, admin, clock):
        assert not grey(app, "ap-northeast")
        admin.go_away()
        clock.now_s += 12.0
        app.look()
        await settled(app, pilot)
        text = text_of(app)
        assert "12 s ago: cannot reach" in text
        assert "1 down: eu-central/b" in text
        assert grey(app, "ap-northeast")
        assert grey(app, "12 req/s")
        admin.come_back()
        app.look()
        await settled(app, pilot)
        assert "cannot reach" not in text_of(app)
        assert not grey(app, "ap-northeast")
        assert list(app.view.requests_per_s) == [12.3, None, 12.3], "with a gap"


async def test_a_router_that_is_silent_holds_nobody_up() -> None:
    async with showing(answers(), (100, 30), interval_s=1.0) as (app, pilot, admin, clock):
        admin.hold = threading.Event()
        app.look()
        clock.now_s += 30.0
        await pilot.press("2")
        await pilot.press("s")
        await pilot.pause()
        app._grow_old()
        await pilot.pause()
        assert "the router is silent" in text_of(app)
        assert app.tab == "backends"
        admin.hold.set()
        await settled(app, pilot)
        assert "silent" not in text_of(app)


async def test_a_new_size_is_drawn_at_once() -> None:
    async with showing(answers(large_fleet()), (120, 40)) as (app, pilot, admin, _):
        assert "⣿⣿⣿" in text_of(app), "the map"
        asked = len(admin.asked)
        await pilot.resize_terminal(60, 16)
        await pilot.pause()
        text = text_of(app)
        assert "⣿⣿⣿" not in text
        assert max(map(len, text.splitlines())) <= 60
        assert "2 down" in text
        assert len(admin.asked) == asked, "from what it knows"


async def test_read_only_and_who_may_not() -> None:
    async with showing(answers(), (100, 30), read_only=True) as (app, pilot, _, _):
        assert "drain" not in text_of(app)
        await press(app, pilot, "d")
        assert "read only" in text_of(app)
    refused = (403, {"error": {"message": "This needs the role operate; anna has read."}})
    known = answers() | {("POST", "/admin/v1/regions/us-east/drain"): refused}
    async with showing(known, (100, 30)) as (app, pilot, _, _):
        await press(app, pilot, "down", "d", "y")
        assert "error: this needs the role operate; anna has read." in text_of(app)
        await press(app, pilot, "5", "d")
        assert "only a region or a backend can be drained" in text_of(app)


async def test_looking_into_each_kind_of_row() -> None:
    titles = {"regions": "region eu-central", "backends": "backend eu-central/b", "keys": "key batch"}
    titles |= {"requests": "request req-6a1b03", "events": "event"}
    for tab, title in titles.items():
        async with showing(answers(), (100, 30), tab=tab) as (app, pilot, _, _):
            await press(app, pilot, "enter")
            assert text_of(app).startswith(title), tab
    async with showing(answers(), (100, 30), tab="models") as (app, pilot, _, _):
        await press(app, pilot, "enter")
        assert (app.tab, {row.about["region"] for row in app.grid.rows}) == ("backends", {"us-east"})


async def test_the_pace_can_be_changed_and_no_colours_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with showing(answers(), (100, 30), interval_s=1.0) as (app, pilot, _, _):
        await press(app, pilot, "plus")
        assert app.view.interval_s == 2.0
        assert "a look every 2 s" in text_of(app)
        await press(app, pilot, "minus", "minus")
        assert app.view.interval_s == 0.5
        for strip in app.screen._compositor.render_strips():
            segments = list(strip)
            for each in app._filters:
                segments = each.apply(segments, app.screen.background_colors[1]) if each.enabled else segments
            assert all(s.style is None or s.style.color is None or s.style.color.is_default for s in segments)
