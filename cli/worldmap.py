"""The world in braille, 80 columns by 16 lines, with regions on it.

The land is Natural Earth's at 1:110 million (public domain): one bit for each of 160 x 64 dots, equirectangular, from
180 degrees west to 180 east and from 78 degrees north to 58 south.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

COLUMNS, LINES = 80, 16
_NORTH, _SOUTH = 78.0, -58.0
_LAND = (
    b"c-n1}&2AGh5XZ-HnvK*5SK`t`MZ%3^4jftuY5OSf1mwV>l@Q)0?*ZZska&QaFL6OU0!oF%l|>+MgyUgmY;S^+Ie5K4kLTm>0f2k`"
    b"3yTpHkX4XuaL{UEWDhmEfw1^IC=9ewR|auG8xQ82b<7@swup3Nf%y0PYiC<fc!kM+@^aJS+-WQZyu4gK)s4B%DDr8n;1r;?nFSRr"
    b"hN_`tb)C@4!PJm*OH~fW$xCzTh#x&b?^e3&xfP1|hq^c%=M3D4k~*O)MS7#}*L1|T7DjPynqB7EZ*?g-3ZweW2Y)8b7DlUCU|{w("
    b"GZxgqV`i(luv!G|`%2pQENm>S@*<Hx6=tyIH9iu*iLgU_B_~OO^lk_KNTT9;!?e%Yqb()#)1@lyJH%g^U5t_v_$FGH*=5s+-?a<R"
    b"n#{&cy8EK>bw4w;On1M)Y+M*Di()e~FYK-p_8TU;Ah_+N<_MECg))hOm7pGuh8@!+^swe0?jLu4=vV||C$qv#Vw8U5H>}MEgD2CD"
    b"#T<Ypsbk2DT2xRqB?tX;a)5Jv-Z3sH=`<<z#g3i97OU_*?|&4r68ps4by1a{tHM!kGnozicamDliLGaLEQ7KvezehXC{N#(cvOap"
    b"u**UkvW_)n9JUxQ@^i<O9I<;Y(3z>Q#au737PhRn8IEFZxXU0tr*hkDn&ZNb?PF>WgMI9O`v*ePlF0"
)
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
    bits = int.from_bytes(zlib.decompress(base64.b85decode(_LAND)), "big")
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
    line = int((_NORTH - latitude) / (_NORTH - _SOUTH) * LINES)
    return min(max(column, 0), COLUMNS - 1), min(max(line, 0), LINES - 1)
