"""The world in braille, 80 columns by 16 lines, with regions on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router import land as land_dots

if TYPE_CHECKING:
    from rich.text import Text

COLUMNS, LINES = land_dots.COLUMNS // 2, land_dots.LINES // 4
#: The bit of a braille character for each of its dots, by column and line.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


@dataclass(frozen=True, slots=True)
class Mark:
    """A place and what is written beside it; ``style`` is the colour of both."""

    location: Sequence[float]  # latitude, longitude in degrees
    label: str
    style: str


def draw(marks: Sequence[Mark]) -> list[Text]:
    """The lines of the map. Where labels would meet, the later mark goes on top."""
    from rich.text import Text

    rows = [list(line) for line in land()]
    spans: list[tuple[int, int, int, str]] = []
    for mark in marks:
        column, line = cell(mark.location)
        label = mark.label[: COLUMNS // 2]
        start = column + 2 if column + 2 + len(label) <= COLUMNS else column - 1 - len(label)
        rows[line][start : start + len(label)] = label
        rows[line][column] = "●"
        spans += [(line, start, start + len(label), mark.style), (line, column, column + 1, f"bold {mark.style}")]
    drawn = [Text("".join(row), style="grey42") for row in rows]
    for line, start, end, style in spans:
        drawn[line].stylize(style, start, end)
    return drawn


def land() -> list[str]:
    """The map without anything on it."""
    bits = int.from_bytes(land_dots.bits(), "big")
    width, height = COLUMNS * 2, LINES * 4

    def is_land(x: int, y: int) -> bool:
        return bool(bits >> (width * height - 1 - y * width - x) & 1)

    def character(column: int, line: int) -> str:
        dots = sum(_DOTS[x][y] for x in range(2) for y in range(4) if is_land(column * 2 + x, line * 4 + y))
        return chr(0x2800 + dots) if dots else " "

    return ["".join(character(column, line) for column in range(COLUMNS)) for line in range(LINES)]


def cell(location: Sequence[float]) -> tuple[int, int]:
    """Column and line of a place; what is beyond the edge is put on it."""
    latitude, longitude = location
    column = int((longitude + 180.0) / 360.0 * COLUMNS)
    line = int((land_dots.NORTH - latitude) / (land_dots.NORTH - land_dots.SOUTH) * LINES)
    return min(max(column, 0), COLUMNS - 1), min(max(line, 0), LINES - 1)
