"""The table on the screen: cursor, order, filter, mouse."""

from __future__ import annotations

import pytest

pytest.importorskip("textual", reason="make install: Textual is missing")

from cli.top.grid import Grid
from tests.support.fleet_on_show import answers, large_fleet
from tests.support.top_screens import press, settled, showing, text_of


def keys_of(grid: Grid) -> list[str]:
    return [row.key for row in grid.rows]


async def test_the_cursor_moves_scrolls_and_stays_on_its_row() -> None:
    async with showing(answers(large_fleet()), (80, 24)) as (app, pilot, admin, _):
        grid = app.grid
        await press(app, pilot, "down", "j", "j", "k")
        assert grid.cursor == 2
        name = grid.rows[2].key
        await press(app, pilot, "end")
        assert grid.cursor == 29
        assert grid.scroll_y > 0
        assert grid.rows[29].key in text_of(app)
        await press(app, pilot, "home", "down", "down")
        admin.answers["GET", "/admin/v1/regions"]["data"].insert(0, large_fleet(1)[0] | {"name": "zz"})
        app.look()
        await settled(app, pilot)
        assert grid.rows[grid.cursor].key == name, "others have come before it"
        await press(app, pilot, "pagedown")
        assert grid.cursor > 10


async def test_s_goes_through_the_orders_and_a_click_on_a_heading_too() -> None:
    async with showing(answers(), (120, 40)) as (app, pilot, _, _):
        grid = app.grid
        assert keys_of(grid)[0] == "eu-central", "it needs attention"
        await press(app, pilot, "s")
        assert keys_of(grid) == ["ap-northeast", "eu-central", "us-east"]
        await press(app, pilot, "S")
        assert keys_of(grid) == ["us-east", "eu-central", "ap-northeast"]
        assert "region▼" in text_of(app)
        heading = next(line for line in text_of(app).splitlines() if "in flight" in line and "backends" in line)
        await pilot.click(f"#{app.tab}", offset=(heading.index("in flight") + 3, 0))
        await settled(app, pilot)
        assert keys_of(grid) == ["ap-northeast", "eu-central", "us-east"], "the largest first"
        assert "in flight▼" in text_of(app)


async def test_the_mouse_chooses_a_row_and_looks_into_it() -> None:
    async with showing(answers(), (120, 40)) as (app, pilot, _, _):
        await pilot.click(f"#{app.tab}", offset=(3, 2))
        await settled(app, pilot)
        assert app.grid.cursor == 1
        assert len(app.screen_stack) == 1
        await pilot.click(f"#{app.tab}", offset=(3, 2), times=2)
        await settled(app, pilot)
        assert "region us-east" in text_of(app)


async def test_no_rows_say_why() -> None:
    known = answers() | {("GET", "/admin/v1/keys"): {"data": []}}
    async with showing(known, (80, 24), tab="keys") as (app, pilot, _, _):
        assert "no keys: make one with" in text_of(app)
        await press(app, pilot, "1", "slash", "x", "y", "z", "enter")
        assert "no such rows" in text_of(app)
