"""A view of the fleet on show, as one good look brings it, at a time that stands still."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from rich.console import Console

from cli.top.polling import PARTS, Reading
from cli.top.view import View
from tests.support.fleet_on_show import NOW_S, answers


def view_of(known: dict[tuple[str, str], Any] | None = None, looks: int = 1) -> View:
    known = answers() if known is None else known
    reading = Reading({name: known["GET", path] for name, (path, _) in PARTS.items() if ("GET", path) in known})
    view = View()
    for look in range(looks):
        view.take(reading, 10.0 + look, NOW_S)
    return view


def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is always NOW_S, in UTC."""
    gmtime = time.gmtime
    monkeypatch.setattr(time, "time", lambda: NOW_S)
    monkeypatch.setattr(time, "localtime", lambda at_s=None: gmtime(NOW_S if at_s is None else at_s))


def drawn(thing: Any, width: int = 120) -> str:
    """As rich draws it, without colours."""
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False, _environ={})
    with console.capture() as captured:
        console.print(thing)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
