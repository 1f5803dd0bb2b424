"""Small pictures made of block characters."""

from __future__ import annotations

from collections.abc import Sequence

_EIGHTHS_UP = "▁▂▃▄▅▆▇█"
_EIGHTHS_RIGHT = "▏▎▍▌▋▊▉█"


def bar(share: float | None, width: int) -> str:
    """A horizontal bar, ``width`` columns at share 1. Anything above zero is visible; unknown is blank."""
    if share is None or share <= 0:
        return " " * width
    eighths = max(1, round(min(share, 1.0) * width * 8))
    full, rest = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS_RIGHT[rest - 1] if rest else "")
    return text.ljust(width)


def sparkline(values: Sequence[float | None], width: int, *, top: float | None = None) -> str:
    """The last ``width`` values as columns, scaled to ``top`` or to their maximum; unknown is blank."""
    tail = list(values)[-width:]
    highest = top if top is not None else max((v for v in tail if v is not None), default=0.0)
    cells = []
    for value in tail:
        if value is None:
            cells.append(" ")
        elif highest <= 0 or value <= 0:
            cells.append(_EIGHTHS_UP[0])
        else:
            cells.append(_EIGHTHS_UP[min(7, int(value / highest * 7.999))])
    return "".join(cells)


def columns(values: Sequence[float | None], width: int, height: int) -> list[str]:
    """The same as a chart of ``height`` lines, the top one first."""
    tail = list(values)[-width:]
    highest = max((v for v in tail if v is not None), default=0.0)
    rows: list[list[str]] = [[] for _ in range(height)]
    for value in tail:
        eighths = 0 if value is None or highest <= 0 else max(1, round(value / highest * height * 8))
        for index in range(height):
            filled = min(8, max(0, eighths - (height - 1 - index) * 8))
            rows[index].append(_EIGHTHS_UP[filled - 1] if filled else " ")
    return ["".join(row) for row in rows]
