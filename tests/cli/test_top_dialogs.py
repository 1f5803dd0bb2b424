"""Questions on top of the screen, and the help."""

from __future__ import annotations

import pytest

pytest.importorskip("textual", reason="make install: Textual is missing")

from cli.top.dialogs import ConfirmScreen, HelpScreen, NoticeScreen
from tests.support.fleet_on_show import answers
from tests.support.top_screens import press, showing, text_of

APPLIED = {"applied": "all routers", "shared": True, "inflight": 0, "leaving": {"in_s": 300.0}}
EAST = "/admin/v1/regions/us-east"


@pytest.mark.parametrize("key", ["escape", "question_mark", "q"])
async def test_help_comes_and_goes(key: str) -> None:
    async with showing(answers(), (80, 24)) as (app, pilot, _, _):
        await press(app, pilot, "question_mark")
        assert isinstance(app.screen, HelpScreen)
        assert "order by the next column" in text_of(app)
        await press(app, pilot, key)
        assert len(app.screen_stack) == 1


@pytest.mark.parametrize(("key", "done"), [("y", 1), ("n", 0), ("escape", 0), ("enter", 0)])
async def test_only_y_is_yes(key: str, done: int) -> None:
    known = answers() | {("POST", f"{EAST}/drain"): APPLIED}
    async with showing(known, (100, 30)) as (app, pilot, admin, _):
        await press(app, pilot, "down", "d")
        assert isinstance(app.screen, ConfirmScreen)
        assert "no other usable backend is in the jurisdiction us" in text_of(app)
        await press(app, pilot, key)
        assert [path for method, path, _, _ in admin.asked if method == "POST"] == [f"{EAST}/drain"] * done
        assert ("gets no new requests" if done else "nothing was done") in text_of(app)


async def test_a_notice_says_when() -> None:
    known = answers() | {("POST", f"{EAST}/notice"): APPLIED}
    async with showing(known, (100, 30)) as (app, pilot, admin, _):
        await press(app, pilot, "down", "n")
        assert isinstance(app.screen, NoticeScreen)
        await press(app, pilot, "backspace", "backspace", *"soon", "enter")
        assert "'soon' is not a span" in text_of(app)
        await press(app, pilot, *["backspace"] * 4, *"5m", "enter")
        (body,) = [body for method, _, _, body in admin.asked if method == "POST"]
        assert body["in_s"] == 300.0
        assert "leaving in 5m 00s" in text_of(app)
        await press(app, pilot, "n", "escape")
        assert "nothing was done" in text_of(app)
