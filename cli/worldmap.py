"""The world in braille, 80 columns by 16 lines, with regions and the ways between them on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from router import land as land_dots

if TYPE_CHECKING:
    from rich.text import Text

COLUMNS, LINES = land_dots.COLUMNS // 2, land_dots.LINES // 4
#: The bit of a braille character for each of its dots, by column and line.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_DOT = "●"
#: A flow with this share of all and more -> its colour; the first that fits holds.
_STRENGTHS = ((0.25, "bright_blue"), (0.0, "blue"))
#: States that are named first where room is scarce.
_FIRST = ("red", "yellow", "cyan")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place and its label; ``style`` is the colour of both. ``short``: the label where there is less room."""

    location: Sequence[float]  # latitude, longitude in degrees
    label: str
    style: str
    short: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """Requests on their way from one place to another; ``share`` of all that are."""

    start: Sequence[float]
    end: Sequence[float]
    share: float


@dataclass(frozen=True, slots=True)
class Span:
    """Some cells of a line in one style."""

    line: int
    start: int
    end: int
    style: str


def draw(marks: Sequence[Mark], flows: Sequence[Flow] = ()) -> list[Text]:
    """The lines of the map. No label covers another one or a mark: one that finds no place is left out. Of marks in the
    same cell the one that needs most attention is seen."""
    from rich.text import Text

    rows = [list(line) for line in land()]
    spans = [_draw_flow(rows, flow) for flow in flows]
    taken: set[tuple[int, int]] = set()
    seen: dict[tuple[int, int], Mark] = {}
    for mark in sorted(marks, key=_urgency, reverse=True):
        seen[cell(mark.location)] = mark
    for column, line in seen:
        taken |= {(line, column - 1), (line, column), (line, column + 1)}
    written: list[Span] = []
    for (column, line), mark in sorted(seen.items(), key=lambda entry: _urgency(entry[1])):
        rows[line][column] = _DOT
        written.append(Span(line, column, column + 1, f"bold {mark.style}"))
        if (found := _place(mark, column, line, taken)) is not None:
            at, start, label = found
            rows[at][start : start + len(label)] = label
            written.append(Span(at, start, start + len(label), mark.style))
    drawn = [Text("".join(row), style="grey42") for row in rows]
    for span in [*(s for flow in spans for s in flow), *written]:
        drawn[span.line].stylize(span.style, span.start, span.end)
    return drawn


def _urgency(mark: Mark) -> int:
    """Those that come first are low."""
    return _FIRST.index(mark.style) if mark.style in _FIRST else len(_FIRST)


def _place(mark: Mark, column: int, line: int, taken: set[tuple[int, int]]) -> tuple[int, int, str] | None:
    """The line, the first column and the text of its label; ``taken`` gets its cells."""
    for label in dict.fromkeys((mark.label[: COLUMNS // 2], mark.short[: COLUMNS // 2])):
        size = len(label)
        beside = ((line, column + 2), (line, column - 1 - size))
        around = [
            (at, start) for at in (line - 1, line + 1) for start in (column + 1, column - size, column - size // 2)
        ]
        for at, start in (*beside, *around) if label else ():
            cells = {(at, c) for c in range(start, start + size)}
            if 0 <= at < LINES and start >= 0 and start + size <= COLUMNS and not cells & taken:
                taken |= cells | {(at, start - 1), (at, start + size)}
                return at, start, label
    return None


def _draw_flow(rows: list[list[str]], flow: Flow) -> list[Span]:
    """A line of dots, the shorter way around the world."""
    width = COLUMNS * 2
    (x0, y0), (x1, y1) = _dot(flow.start), _dot(flow.end)
    if abs(x1 - x0) > width / 2:
        x1 += width if x1 < x0 else -width
    steps = max(abs(x1 - x0), abs(y1 - y0), 1)
    bits: dict[tuple[int, int], int] = {}
    for step in range(steps + 1):
        x, y = round(x0 + (x1 - x0) * step / steps) % width, round(y0 + (y1 - y0) * step / steps)
        place = (y // 4, x // 2)
        bits[place] = bits.get(place, 0) | _DOTS[x % 2][y % 4]
    style = next(colour for share, colour in _STRENGTHS if flow.share >= share)
    for (line, column), dots in bits.items():
        rows[line][column] = chr(0x2800 + dots)
    return [Span(line, column, column + 1, style) for line, column in bits]


@cache
def land() -> tuple[str, ...]:
    """The map without anything on it."""
    bits = int.from_bytes(land_dots.bits(), "big")
    width, height = COLUMNS * 2, LINES * 4

    def is_land(x: int, y: int) -> bool:
        return bool(bits >> (width * height - 1 - y * width - x) & 1)

    def character(column: int, line: int) -> str:
        dots = sum(_DOTS[x][y] for x in range(2) for y in range(4) if is_land(column * 2 + x, line * 4 + y))
        return chr(0x2800 + dots) if dots else " "

    return tuple("".join(character(column, line) for column in range(COLUMNS)) for line in range(LINES))


def cell(location: Iterable[float]) -> tuple[int, int]:
    """Column and line of a place; what is beyond the edge is put on it."""
    x, y = _dot(location)
    return x // 2, y // 4


def _dot(location: Iterable[float]) -> tuple[int, int]:
    latitude, longitude = location
    x = int((longitude + 180.0) / 360.0 * COLUMNS * 2)
    y = int((land_dots.NORTH - latitude) / (land_dots.NORTH - land_dots.SOUTH) * LINES * 4)
    return min(max(x, 0), COLUMNS * 2 - 1), min(max(y, 0), LINES * 4 - 1)
