"""Whole screens, letter by letter, as they are kept in tests/data/top. ``python -m tests.support.top_screens`` writes
them again: look at the differences before you keep them."""

from __future__ import annotations

import pytest

pytest.importorskip("textual", reason="make install: Textual is missing")

from tests.support.top_screens import KEPT, SCENES, Scene, play
from tests.support.top_views import stand_still


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.file.stem)
async def test_a_screen_looks_as_it_is_kept(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)
    shown = await play(scene)
    assert shown == scene.file.read_text()


def test_no_screen_is_kept_that_nobody_shows() -> None:
    assert {path.name for path in KEPT.glob("*.txt")} == {scene.file.name for scene in SCENES}


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.file.stem)
def test_every_screen_is_as_large_as_it_says_and_tells_what_is_down(scene: Scene) -> None:
    lines = scene.file.read_text().splitlines()
    width, height = scene.size
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    if scene.name not in ("help", "drain"):
        assert any(" down" in line for line in lines[:3]), "whatever is shown"
