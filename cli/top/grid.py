"""A table on the screen: a heading that stays, a cursor that stays on its thing, scrolling, the mouse.

Textual's own DataTable keeps a copy of every cell and lays out columns once; here a frame is drawn from the sheet, so
that columns come and go with the width and a look costs the rows that are seen.
"""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from cli import charts
from cli.top.sheets import (
    GAP,
    Order,
    Row,
    Sheet,
    fit,
    matching,
    next_order,
    order_by,
    ordered,
    parsed,
    widths,
)

_NO_ROWS = "no such rows: Esc ends the filter"


class Grid(ScrollView):
    """Shows a sheet. ``faded``: it is not of now."""

    DEFAULT_CSS = """
    Grid { scrollbar-size-vertical: 1; overflow-x: hidden; background: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move(-1000000)", show=False),
        Binding("end,G", "move(1000000)", show=False),
        Binding("enter", "open", show=False),
        Binding("tab,right,l", "app.next_tab(1)", show=False),
        Binding("shift+tab,left,h", "app.next_tab(-1)", show=False),
    ]

    class Opened(Message):
        """Somebody wants to look into a row."""

        def __init__(self, grid: Grid, row: Row) -> None:
            super().__init__()
            self.grid, self.row = grid, row

    def __init__(self, *, id: str, focusable: bool = True) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.can_focus = focusable
        self.sheet = Sheet(())
        self.rows: list[Row] = []
        self.order = Order()
        self.words = ""
        self.cursor = 0
        self.faded = False
        self._widths: list[int] = []
        self._kept: tuple[int, dict[int, int]] = (-1, {})

    @property
    def current(self) -> Row | None:
        return self.rows[self.cursor] if self.cursor < len(self.rows) else None

    def show(self, sheet: Sheet, *, faded: bool = False) -> None:
        self.sheet, self.faded = sheet, faded
        self._arrange()

    def sort(self, order: Order) -> None:
        self.order = order
        self._arrange()

    def sort_next(self) -> None:
        self.sort(next_order(self.order, self.sheet.columns))

    def sort_other_way(self) -> None:
        if self.order.column is not None:
            self.sort(Order(self.order.column, not self.order.falling))

    def look_for(self, words: str) -> None:
        self.words = words
        self._arrange()

    def _arrange(self) -> None:
        """Order and filter again; the cursor stays on its row, wherever that is now."""
        current = self.current
        self.rows = list(filter(matching(self.words), ordered(self.sheet.rows, self.order)))
        if current is not None and self.cursor:  # at the top it stays at the top
            at = next((i for i, row in enumerate(self.rows) if row.key == current.key), self.cursor)
            self.cursor = at
        self.cursor = max(0, min(self.cursor, len(self.rows) - 1))
        self._widths = widths(Sheet(self.sheet.columns, self.rows))
        self._kept = (-1, {})
        self.virtual_size = Size(self.size.width, len(self.rows) + 1)
        self.refresh()

    # drawing

    @property
    def _room(self) -> int:
        """Columns beside the scrollbar."""
        return self.scrollable_content_region.width

    def _columns(self) -> dict[int, int]:
        width = self._room
        if self._kept[0] != width:
            self._kept = (width, fit(self.sheet.columns, self._widths, width) if self._widths else {})
        return self._kept[1]

    def render_line(self, y: int) -> Strip:
        if y == 0:
            return self._strip(self._heading())
        index = y - 1 + round(self.scroll_y)
        if index < len(self.rows):
            return self._strip(self._line(self.rows[index], at_cursor=index == self.cursor and self.has_focus))
        if y == 1 and not self.rows:
            return self._strip(Text.assemble((_NO_ROWS if self.sheet.rows else self.sheet.empty, "dim")))
        return Strip.blank(self._room, Style.null())

    def _strip(self, line: Text) -> Strip:
        line.end = ""
        drawn = (Segment(s.text, s.style or Style.null()) for s in line.render(self.app.console))
        return Strip(drawn).adjust_cell_length(self._room, Style.null())

    def _heading(self) -> Text:
        line = Text()
        for i, width in self._columns().items():
            column = self.sheet.columns[i]
            mark = ("▼" if self.order.falling else "▲") if self.order.column == i else ""
            name = Text(column.name + mark, style="bold" if mark else "dim")
            name.align("right" if column.right else "left", width)
            line.append_text(name).append(" " * GAP)
        return line

    def _line(self, row: Row, *, at_cursor: bool) -> Text:
        line = Text()
        for i, width in self._columns().items():
            column = self.sheet.columns[i]
            if column.trend:
                cell = Text(charts.sparkline(row.trend, width), style="yellow")
            else:
                cell = parsed(row.cells[i].markup).copy()
                if cell.cell_len > width:
                    cell.truncate(width, overflow="ellipsis")
            cell.align("right" if column.right or column.trend else "left", width)
            line.append_text(cell).append(" " * GAP)
        if not self.faded and not at_cursor:
            return line
        line.align("left", self._room)
        styles = [name for name, holds in (("dim", self.faded), ("reverse", at_cursor)) if holds]
        return Text.assemble((line.plain, " ".join(styles)))

    # moving

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor + by)

    def action_page(self, by: int) -> None:
        self.move_to(self.cursor + by * max(1, self.size.height - 2))

    def move_to(self, row: int) -> None:
        self.cursor = max(0, min(row, len(self.rows) - 1))
        top, seen = round(self.scroll_y), max(1, self.size.height - 1)
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False)
        elif self.cursor >= top + seen:
            self.scroll_to(y=self.cursor - seen + 1, animate=False)
        self.refresh()

    def action_open(self) -> None:
        if (row := self.current) is not None:
            self.post_message(self.Opened(self, row))

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            self._sort_at(event.x)
            return
        index = event.y - 1 + round(self.scroll_y)
        if index < len(self.rows):
            self.move_to(index)
            if event.chain >= 2 or not self.can_focus:
                self.action_open()

    def _sort_at(self, x: int) -> None:
        start = 0
        for i, width in self._columns().items():
            if start <= x < start + width + GAP:
                if not self.sheet.columns[i].trend:
                    self.sort(order_by(self.order, i, self.sheet.columns))
                return
            start += width + GAP
