"""A screen about one thing."""

from __future__ import annotations

import pytest

pytest.importorskip("textual", reason="make install: Textual is missing")

from cli.top.detail_screen import DetailScreen
from tests.support.fleet_on_show import answers
from tests.support.top_screens import press, settled, showing, text_of


async def test_it_is_read_again_at_every_look_and_left_with_escape() -> None:
    async with showing(answers(), (120, 40), tab="backends") as (app, pilot, admin, _):
        await press(app, pilot, "enter")
        assert isinstance(app.screen, DetailScreen)
        assert "backend eu-central/b" in text_of(app)
        before = len([path for _, path, _, _ in admin.asked if path.endswith("/explain")])
        app.look()
        await settled(app, pilot)
        assert len([path for _, path, _, _ in admin.asked if path.endswith("/explain")]) == before + 1
        assert "1 down" in text_of(app), "that is seen here, too"
        await press(app, pilot, "escape")
        assert len(app.screen_stack) == 1


async def test_what_the_router_refuses_is_shown() -> None:
    known = answers() | {("GET", "/admin/v1/events"): (403, {"error": {"message": "The role read is not enough."}})}
    async with showing(known, (120, 40), tab="backends") as (app, pilot, _, _):
        await press(app, pilot, "enter")
        assert "the role read is not enough." in text_of(app)


async def test_a_backend_can_be_drained_from_its_screen() -> None:
    answer = {"applied": "all routers", "shared": True, "inflight": 0, "leaving": None}
    known = answers() | {("POST", "/admin/v1/backends/eu-central/b/drain"): answer}
    known["GET", "/admin/v1/backends/eu-central/b/losses"] = {
        "of": "eu-central/b", "models": [], "jurisdictions": [], "plans": [], "share": None, "requests": 0,
        "inflight": 0, "room": 9, "loses": False,
    }  # fmt: skip
    async with showing(known, (120, 40), tab="backends") as (app, pilot, _, _):
        await press(app, pilot, "enter", "d")
        assert "Others can serve everything" in text_of(app)
        await press(app, pilot, "y")
        assert "eu-central/b gets no new requests" in text_of(app)


async def test_it_scrolls() -> None:
    async with showing(answers(), (80, 12), tab="requests") as (app, pilot, _, _):
        await press(app, pilot, *["down"] * 4, "enter")
        first = text_of(app)
        await press(app, pilot, "pagedown")
        assert text_of(app) != first
