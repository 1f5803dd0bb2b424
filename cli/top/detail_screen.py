"""A screen about one thing: read again at every look, scrolled, left with Esc."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from cli.errors import CliError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cli.top.app import Top

FOOT = " [bold]Esc[/] back  [bold]↑↓[/] scroll  [bold]q[/] quit"


class DetailScreen(Screen[None]):
    """``story`` asks the router, on a thread of its own. ``name``: of what d, r and n are about, if of anything.
    ``changes``: it is worth reading again."""

    DEFAULT_CSS = """
    DetailScreen { background: ansi_default; }
    DetailScreen #title, DetailScreen #body, DetailScreen #alarm { width: 100%; height: auto; }
    DetailScreen VerticalScroll { background: ansi_default; height: 1fr; scrollbar-size-vertical: 1; }
    DetailScreen #foot { height: 1; width: 100%; text-style: reverse; }
    DetailScreen #alarm { max-height: 3; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,backspace,left", "back", show=False),
        Binding("q", "app.quit", show=False),
        Binding("j", "scroll(1)", show=False),
        Binding("k", "scroll(-1)", show=False),
        Binding("d", "app.drain", show=False),
        Binding("r", "app.resume", show=False),
        Binding("n", "app.notice", show=False),
        Binding("question_mark", "app.help", show=False),
    ]

    def __init__(
        self, title: str, story: Callable[[], RenderableType], *, about: str | None = None, changes: bool = True
    ) -> None:
        super().__init__()
        self._title = title
        self._story = story
        self.about = about
        self.changes = changes
        self._asking = self._there = False

    def compose(self) -> ComposeResult:
        yield Static(Text(self._title, style="bold"), id="title")
        yield Static("", id="alarm")
        with VerticalScroll():
            yield Static(Text("asking the router …", style="dim"), id="body")
        yield Static(Text.from_markup(FOOT), id="foot")

    def on_mount(self) -> None:
        self._there = True
        self.set_focus(self.query_one(VerticalScroll))
        cast("Top", self.app).redraw()
        self.look()

    def look(self) -> None:
        """Read it again, unless an answer is awaited still."""
        if self._asking:
            return
        self._asking = True
        app = cast("Top", self.app)

        def ask() -> None:
            try:
                told: RenderableType = self._story()
            except CliError as error:
                told = Text(error.message, style="red")
            app.deliver(lambda: self._show(told))

        app.background(ask)

    def _show(self, told: RenderableType) -> None:
        self._asking = False
        if self.is_attached:
            self.query_one("#body", Static).update(told)

    def tell(self, alarm: RenderableType, foot: RenderableType) -> None:
        """The lines above and below, which are those of the program."""
        if not self._there:
            return
        self.query_one("#alarm", Static).update(alarm)
        self.query_one("#foot", Static).update(foot)

    def action_back(self) -> None:
        self.app.pop_screen()

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)
