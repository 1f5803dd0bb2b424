"""Screens of ``router top`` as text, over a fleet that is always the same.

``python -m tests.support.top_screens`` writes those that are kept in tests/data/top again; look at what changes.
``... --pictures FOLDER`` writes SVGs of them, too.
"""

from __future__ import annotations

import asyncio
import io
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from cli.context import Context
from cli.output import Output
from cli.top.app import Top
from tests.support.admin_stand_in import StandIn
from tests.support.fleet_on_show import NOW_S, answers, large_fleet, with_gpus
from tests.support.top_views import stand_still

KEPT = Path(__file__).parents[1] / "data" / "top"
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Scene:
    name: str
    size: tuple[int, int]
    keys: Sequence[str] = ()
    large: bool = False
    gone: bool = False  # the router is away at the second look, 12 seconds later
    read_only: bool = False
    gpus: bool = False  # pages of GPUs are named

    @property
    def file(self) -> Path:
        return KEPT / f"{self.name}-{self.size[0]}x{self.size[1]}.txt"


SMALL, MIDDLE, WIDE, TINY = (80, 24), (120, 40), (200, 60), (40, 10)
SCENES = (
    *(Scene("regions", size) for size in (SMALL, MIDDLE, WIDE, TINY)),
    *(Scene("thirty", size, large=True) for size in (SMALL, MIDDLE, WIDE, TINY)),
    *(Scene("backends", size, ("2",)) for size in (SMALL, WIDE)),
    *(Scene("gpus", size, ("2",), gpus=True) for size in (SMALL, MIDDLE, WIDE)),
    Scene("models", MIDDLE, ("3",)),
    *(Scene("keys", size, ("4",)) for size in (SMALL, MIDDLE)),
    *(Scene("requests", size, ("5",)) for size in (SMALL, MIDDLE)),
    Scene("events", SMALL, ("6",)),
    Scene("help", SMALL, ("question_mark",)),
    Scene("request", SMALL, ("5", "down", "down", "down", "down", "enter")),
    Scene("backend", MIDDLE, ("2", "down", "enter")),
    Scene("drain", SMALL, ("down", "d")),
    Scene("filter", SMALL, ("5", "slash", *"status:5xx", "enter")),
    Scene("sorted", SMALL, ("2", "s", "s", "s")),
    Scene("paused", SMALL, ("p",)),
    Scene("gone", SMALL, gone=True),
    Scene("read-only", SMALL, read_only=True),
)


class Clock:
    now_s = 10.0

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def showing(
    known: dict[tuple[str, str], Any], size: tuple[int, int] = SMALL, **options: Any
) -> AsyncIterator[tuple[Top, Any, StandIn, Clock]]:
    """The program over a stand-in for the router. Looks are taken when a test says so, and at each key that asks."""
    clock = Clock()
    with StandIn(known) as admin:
        ctx = Context(out=Output(io.StringIO(), io.StringIO(), env={}), env={}, admin_url=admin.url)
        app = Top(ctx, **{"interval_s": 3600.0, "now_s": clock, "wall_s": lambda: NOW_S} | options)
        async with app.run_test(size=size) as pilot:
            await settled(app, pilot)
            yield app, pilot, admin, clock


async def settled(app: Top, pilot: Any) -> None:
    """Every question is answered, and every answer shown."""
    end_s = time.monotonic() + _PATIENCE_S
    await pilot.pause()
    while app.busy:
        assert time.monotonic() < end_s, "the router does not answer"
        await asyncio.sleep(0.005)
    await pilot.pause()


async def press(app: Top, pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await settled(app, pilot)


def text_of(app: Top) -> str:
    """The screen as it is, line by line."""
    width, height = app.size
    console = Console(file=io.StringIO(), width=width, height=height, record=True, color_system=None, _environ={})
    console.print(app.screen._compositor.render_update(full=True, screen_stack=app._background_screens))
    return "\n".join(line.rstrip() for line in console.export_text().splitlines()) + "\n"


async def play(scene: Scene, picture: Path | None = None) -> str:
    known = answers(large_fleet() if scene.large else with_gpus() if scene.gpus else None)
    async with showing(known, scene.size, read_only=scene.read_only) as (app, pilot, admin, clock):
        if scene.gone:
            app._ctx.admin.url = "http://edge:9090"  # its port is another one each time
            admin.go_away()
            clock.now_s += 12.0
            app.look()
            await settled(app, pilot)
            admin.come_back()
        await press(app, pilot, *scene.keys)
        if picture is not None:
            (picture / f"{scene.file.stem}.svg").write_text(app.export_screenshot(simplify=True))
        return text_of(app)


def main() -> None:
    picture = Path(sys.argv[2]) if sys.argv[1:2] == ["--pictures"] else None
    KEPT.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        stand_still(patch)
        for scene in SCENES:
            scene.file.write_text(asyncio.run(play(scene, picture)))
            print(scene.file)


if __name__ == "__main__":
    main()
