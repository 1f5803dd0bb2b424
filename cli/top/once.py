"""One frame for pipes and scripts, with what the live view shows: whatever is down first, then regions and requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.output import Output, Table
from cli.top import alarms, fleet, pictures, traffic
from cli.top.sheets import Order, Sheet, matching, ordered
from cli.top.view import View

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Most rows of a table.
ROWS_MAX = 50


def sheet_of(view: View, tab: str, wall_s: float) -> Sheet:
    """The table of a tab."""
    match tab:
        case "regions":
            return fleet.regions(view)
        case "backends":
            return fleet.backends(view)
        case "models":
            return fleet.models(view)
        case "keys":
            return traffic.keys(view)
        case "requests":
            return traffic.requests(view)
    return traffic.events(view, wall_s)


def frame(out: Output, view: View, tab: str, wall_s: float, *, words: str = "") -> None:
    """Print the heading, what is down, and the table of one tab."""
    out.line(pictures.heading(view, out.width))
    told = [alarms.alarm(view.regions, 10_000, wall_s), *pictures.notes(view)]
    for line in filter(None, told):
        out.line(f"[red]![/] {line}")
    out.line("")
    out.line(table(sheet_of(view, tab, wall_s), words))


def table(sheet: Sheet, words: str = "") -> RenderableType:
    """A table of the usual look; columns that fit no terminal leave in the order of the sheet."""
    columns = [(i, column) for i, column in enumerate(sheet.columns) if not column.trend]
    rows = list(filter(matching(words), ordered(sheet.rows, Order())))[:ROWS_MAX]
    if not rows:
        return f"[dim]{sheet.empty if not sheet.rows else 'no such rows'}[/]"
    leaving = sorted((column for _, column in columns if column.leaves), key=lambda column: column.leaves)
    names = [column.name or " " for _, column in columns]
    made = Table(
        names,
        right=[column.name for _, column in columns if column.right],
        drop=[column.name or " " for column in leaving],
        empty=[name for (_, column), name in zip(columns, names, strict=True) if column.text],
    )
    for row in rows:
        made.add_row(*(row.cells[i].markup for i, _ in columns))
    return made
