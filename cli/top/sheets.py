"""A table as data: which columns fit, in which order the rows stand, which rows are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.text import Text

#: Blank columns between two columns.
GAP = 2
#: A column of text is not made narrower than this.
_NARROWEST = 6
#: Nothing leaves because a text is wider than this: it is cut instead.
_ENOUGH = 32

#: Cells are ordered by it; None: not known, and always last.
Rank = float | str | None


class Cell(NamedTuple):
    """``markup`` is rich's; ``rank``: what it is ordered by."""

    markup: str
    rank: Rank = None


@dataclass(frozen=True, slots=True)
class Column:
    """``leaves``: those with the smallest number go first where there is no room; 0 never does. ``text`` may be cut,
    numbers never are. ``trend``: values over time, drawn as wide as there is room for. ``largest``: the order that one
    wants first."""

    name: str
    right: bool = False
    leaves: int = 0
    text: bool = False
    trend: bool = False
    largest: bool = False


@dataclass(slots=True)
class Row:
    """``key`` names the thing in its table; ``alarm``: 2 is down, 1 wants attention. ``about``: what a filter can ask
    for by name."""

    key: str
    cells: Sequence[Cell]
    alarm: int = 0
    trend: Sequence[float | None] = ()
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Sheet:
    """``empty``: what is said when there are no rows. ``order``: the index of the column it is ordered by at first."""

    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    empty: str = "nothing yet"


@dataclass(frozen=True, slots=True)
class Order:
    """None: as the table has them, what needs attention first."""

    column: int | None = None
    falling: bool = False


def next_order(order: Order, columns: Sequence[Column]) -> Order:
    """From the table's own order through all columns and back."""
    at = -1 if order.column is None else order.column
    for column in range(at + 1, len(columns)):
        if columns[column].name and not columns[column].trend:
            return Order(column, columns[column].largest)
    return Order()


def order_by(order: Order, column: int, columns: Sequence[Column]) -> Order:
    """Somebody has clicked on a heading: by that column, or the other way round."""
    if order.column == column:
        return Order(column, not order.falling)
    return Order(column, columns[column].largest)


def ordered(rows: Sequence[Row], order: Order) -> list[Row]:
    column = order.column
    if column is None:
        return sorted(rows, key=lambda row: -row.alarm)
    known = [row for row in rows if row.cells[column].rank is not None]
    unknown = [row for row in rows if row.cells[column].rank is None]
    known.sort(key=lambda row: _comparable(row.cells[column].rank), reverse=order.falling)
    return known + unknown


def _comparable(rank: Rank) -> tuple[int, float, str]:
    return (1, 0.0, rank) if isinstance(rank, str) else (0, float(rank or 0.0), "")


def matching(text: str) -> Callable[[Row], bool]:
    """``text``: words that a row must have anywhere, or ``name:word`` for something it is known by. ``status:5xx``
    stands for 500 to 599, a ``-`` before a word for rows that do not have it."""
    tests = [_test(word) for word in text.lower().split()]
    return lambda row: all(test(row) for test in tests)


def _test(word: str) -> Callable[[Row], bool]:
    if word.startswith("-") and len(word) > 1:
        inner = _test(word[1:])
        return lambda row: not inner(row)
    name, colon, value = word.partition(":")
    if not colon or not value:
        return lambda row: word in plain_row(row)

    def has(row: Row) -> bool:
        if name not in row.about:
            return word in plain_row(row)
        found = str(row.about[name] if row.about[name] is not None else "").lower()
        if name == "status":
            return len(value) == len(found) and all(a in ("x", b) for a, b in zip(value, found, strict=True))
        return value in found

    return has


def plain_row(row: Row) -> str:
    words = [parsed(cell.markup).plain for cell in row.cells]
    return " ".join((*words, *(str(v) for v in row.about.values() if v is not None))).lower()


def fit(columns: Sequence[Column], widths: Sequence[int], room: int) -> dict[int, int]:
    """Column -> width: those that fit. Columns leave in their order, then texts are made narrower; the trend gets the
    room that is left over. Empty columns (width 0) are left out."""
    wanted = [min(width, _ENOUGH) if column.text else width for column, width in zip(columns, widths, strict=True)]
    kept = {i: width for i, width in enumerate(wanted) if width or columns[i].trend}
    leaving = sorted((i for i in kept if columns[i].leaves), key=lambda i: columns[i].leaves)
    for i in leaving:
        if _whole(kept) <= room:
            break
        del kept[i]
    for i in reversed(leaving):  # a wide one has left, and narrower ones have room again
        if i not in kept and _whole(kept) + GAP + wanted[i] <= room:
            kept[i] = wanted[i]
    kept = dict(sorted(kept.items()))
    for i in sorted(kept, reverse=True):
        kept[i] += min(widths[i] - kept[i], max(0, room - _whole(kept)))
    while _whole(kept) > room:
        texts = [i for i in kept if columns[i].text and kept[i] > _NARROWEST]
        if not texts:
            break
        kept[max(texts, key=lambda i: kept[i])] -= 1
    while _whole(kept) > room and len(kept) > 1:
        del kept[max(kept)]
    trend = next((i for i in kept if columns[i].trend), None)
    if trend is not None:
        kept[trend] += max(0, room - _whole(kept))
    return kept


def _whole(kept: dict[int, int]) -> int:
    return sum(kept.values()) + GAP * max(0, len(kept) - 1)


def widths(sheet: Sheet) -> list[int]:
    """How wide each column is at its widest. A column of nothing has width 0; a trend has room for a few values."""
    found = []
    for i, column in enumerate(sheet.columns):
        if column.trend:
            found.append(12)
            continue
        widest = max((parsed(row.cells[i].markup).cell_len for row in sheet.rows), default=0)
        found.append(max(widest, len(column.name) + 1) if widest else 0)
    return found


@cache
def _parsed(markup: str) -> Text:
    from rich.text import Text

    return Text.from_markup(markup)


def parsed(markup: str) -> Text:
    """Not to be changed: copy it. Most cells look as they did a second ago."""
    if _parsed.cache_info().currsize > 20_000:
        _parsed.cache_clear()
    return _parsed(markup)
