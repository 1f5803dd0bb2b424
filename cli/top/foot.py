"""The line of tabs and the line of keys, as wide as the terminal allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.commands.top import TABS

if TYPE_CHECKING:
    from rich.text import Text

#: Key and word, the most needed first.
_MAIN = (("q", "quit"), ("?", "help"), ("⏎", "open"), ("/", "filter"), ("s", "sort"), ("p", "pause"))
_ACTS = (("d", "drain"), ("r", "resume"), ("n", "notice"))
_DETAIL = (("Esc", "back"), ("q", "quit"), ("↑↓", "scroll"), ("?", "help"))
_GAP = "  "


def names(current: str, width: int) -> list[str]:
    """Of the tabs; of the others only the beginnings where there is no room."""
    for letters in (20, 4, 3, 0):
        found = [f"{n} {tab if tab == current else tab[:letters]}".rstrip() for n, tab in enumerate(TABS, 1)]
        if sum(map(len, found)) + 2 * len(found) <= width:
            return found
    return [str(number) for number, _ in enumerate(TABS, 1)]


def tab_line(current: str, width: int) -> Text:
    from rich.text import Text

    line = Text()
    for tab, name in zip(TABS, names(current, width), strict=True):
        line.append(f" {name} ", style="bold reverse" if tab == current else "dim")
    return line


def tab_at(x: int, current: str, width: int) -> str | None:
    """The tab whose name is there."""
    start = 0
    for tab, name in zip(TABS, names(current, width), strict=True):
        if start <= x < start + len(name) + 2:
            return tab
        start += len(name) + 2
    return None


def foot_line(width: int, *, detail: bool, acts: bool, read_only: bool, words: str = "") -> Text:
    """``acts``: there is something to drain. ``words``: the filter in force."""
    from rich.text import Text

    line = Text(" ")
    if words:
        line.append(f"filter: {words} ", style="bold").append("Esc ends it  ")
    keys = [*(_DETAIL if detail else _MAIN), *(_ACTS if acts else ())]
    for key, word in keys:
        if line.cell_len + len(key) + len(word) + 1 > width:
            break
        line.append(key, style="bold").append(f" {word}{_GAP}")
    if read_only and line.cell_len + 9 <= width:
        line.append("read only")
    line.rstrip()
    line.truncate(width, overflow="ellipsis", pad=True)
    return line
