"""The lines of ``router traffic tail``: one for each request, in columns that do not wait for further rows."""

from __future__ import annotations

from collections.abc import Mapping

_GAP = 2
#: What most lines need of each column, in the order in which they stand. Remarks are last, and as long as they are.
_WIDTHS = {
    "time": 8,
    "status": 6,
    "backend": 14,
    "first token": 11,
    "in all": 7,
    "tokens": 12,
    "model": 14,
    "tenant": 8,
    "request": 20,
}
_RIGHT = frozenset({"first token", "in all", "tokens"})
#: Left out in this order when the terminal is too narrow.
_DROP = ("tenant", "model", "tokens", "in all", "time")


def columns(room: int) -> list[str]:
    """Those for which there is room on a line."""
    left = dict(_WIDTHS)
    for name in _DROP:
        if sum(left.values()) + _GAP * (len(left) - 1) <= room:
            break
        del left[name]
    return list(left)


def heading(room: int) -> str:
    return (" " * _GAP).join(_padded(name, name) for name in columns(room)).rstrip()


def line(cells: Mapping[str, str], room: int) -> str:
    """``cells`` in markup, by column; the remarks under an empty name."""
    shown = [_padded(name, cells[name]) for name in columns(room)]
    return (" " * _GAP).join([*shown, cells.get("", "")]).rstrip()


def _padded(name: str, cell: str) -> str:
    from rich.markup import render

    blanks = " " * (_WIDTHS[name] - render(cell).cell_len)
    return blanks + cell if name in _RIGHT else cell + blanks
