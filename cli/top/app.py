"""The program: tabs, keys, the timer. Questions are asked on threads of their own; here their answers are shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.widgets import Input, Static

from cli.commands.top import TABS
from cli.context import Context
from cli.errors import CliError
from cli.output import escape
from cli.top import actions, alarms, details, pictures, polling, traffic
from cli.top.actions import Question
from cli.top.detail_screen import DetailScreen
from cli.top.dialogs import ConfirmScreen, HelpScreen, NoticeScreen
from cli.top.foot import foot_line, tab_at, tab_line
from cli.top.grid import Grid
from cli.top.once import sheet_of
from cli.top.sheets import Row
from cli.top.terminal import Driver
from cli.top.view import View

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Lines that are always there: heading, tabs, footer.
_FRAME = 3
#: Rows of the table that are seen, if it has them, before there is a picture above it.
_ROWS_FIRST = 8
#: Fewer lines are not worth a second table.
_BELOW_MIN = 6
_MESSAGE_S = 8.0
_INTERVALS_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Tabs(Static):
    """The names of the tabs; a click goes there."""

    def on_click(self, event: events.Click) -> None:
        app = self.app
        assert isinstance(app, Top)
        if (tab := tab_at(event.x, app.tab, self.size.width)) is not None:
            app.show_tab(tab)


class Top(App[None]):
    """``options``: see ``cli/commands/top.py``. ``now_s`` and ``wall_s`` are clocks; tests hand in others."""

    TITLE = "router top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { overflow: hidden; }
    Static { background: ansi_default; color: ansi_default; height: auto; }
    #head, #tabs, #foot { height: 1; width: 100%; }
    #overview, #alarm { width: 100%; }
    #foot { text-style: reverse; }
    #alarm { max-height: 3; }
    #filter { height: 1; border: none; padding: 0; background: ansi_default; color: ansi_default; display: none; }
    Grid { height: 1fr; display: none; }
    Grid.-shown { display: block; }
    #below { margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"show('{tab}')", show=False) for number, tab in enumerate(TABS, 1)),
        Binding("s", "sort", show=False),
        Binding("S", "sort_other_way", show=False),
        Binding("slash", "filter", show=False),
        Binding("p,space", "pause", show=False),
        *(Binding(key, verb, show=False) for key, verb in (("plus", "slower"), ("minus", "faster"))),
        Binding("question_mark,f1", "help", show=False),
        *(Binding(verb[0], verb, show=False) for verb in ("drain", "resume", "notice")),
        Binding("escape", "end_filter", show=False),
        Binding("q", "quit", show=False),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
    ]

    def __init__(
        self,
        ctx: Context,
        *,
        interval_s: float,
        router: str | None = None,
        read_only: bool = False,
        tab: str = "regions",
        now_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
        driver: type[Driver] | None = None,
    ) -> None:
        super().__init__(ansi_color=True, driver_class=Driver)
        self.theme = "ansi-dark"  # the terminal's own colours, whatever they are
        self.animation_level = "none"
        self.view = View(interval_s)
        self.tab = tab
        self.paused = False
        self.read_only = read_only
        self.busy = 0
        self._ctx = ctx
        self._router = router
        self._now_s, self._wall_s = now_s, wall_s
        self._asking = False
        self._message: tuple[str, float] | None = None
        self._area: Size | None = None  # of the terminal, once it has changed
        self._home: asyncio.AbstractEventLoop | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Static(id="alarm")
        yield Tabs(id="tabs")
        yield Static(id="overview")
        for tab in TABS:
            yield Grid(id=tab)
        yield Grid(id="below", focusable=False)
        yield Input(id="filter", placeholder="filter: words, -word, status:5xx, region:eu")
        yield Static(id="foot")

    def on_mount(self) -> None:
        self._home = asyncio.get_running_loop()
        self._timer = self.set_interval(self.view.interval_s, self.look)
        self.set_interval(1.0, self._grow_old)
        self.show_tab(self.tab)

    # looking

    def look(self) -> None:
        """Ask the router, unless it has not answered yet or nobody wants to know."""
        if self.paused or self._asking:
            return
        self._asking = True
        names = polling.needed(self.tab)

        def ask() -> None:
            reading = polling.read(self._ctx.admin, names, self._router)
            self.deliver(lambda: self._take(reading))

        self.background(ask)

    def background(self, work: Callable[[], object]) -> None:
        """Do something that may take a while, beside everything else. ``busy`` counts what is going on."""
        self.busy += 1

        def run() -> None:
            try:
                work()
            finally:
                self.deliver(self._one_less)

        polling.in_background(run)

    def _one_less(self) -> None:
        self.busy -= 1

    def deliver(self, work: Callable[[], object]) -> None:
        """Have the thread that draws do something. It may have ended."""
        if self._home is not None:
            with suppress(RuntimeError):
                self._home.call_soon_threadsafe(self.call_later, work)

    def _take(self, reading: polling.Reading) -> None:
        self._asking = False
        self.view.take(reading, self._now_s(), self._wall_s())
        self.redraw()
        if reading.trouble is None and not set(polling.needed(self.tab)) <= {*reading.parts, *reading.refused}:
            self.look()  # another tab was chosen meanwhile
        if isinstance(self.screen, DetailScreen) and self.screen.changes:
            self.screen.look()

    def _grow_old(self) -> None:
        """While no answer comes, the age of the last one is what changes; and messages fade."""
        if self.view.is_stale(self._now_s()) or self.paused or self._message is not None:
            self.redraw()

    # drawing

    def redraw(self) -> None:
        if self._home is None or not self.screen_stack:
            return
        now_s, width = self._now_s(), self.area.width
        stale = self.view.is_stale(now_s) and not self.paused
        with self.batch_update():
            self._draw_head(now_s, width, stale=stale)
            if isinstance(self.screen, DetailScreen):
                self.screen.tell(pictures.as_drawn(self._alarm(now_s, width)), pictures.as_drawn(self._foot(width)))
                return
            base = self.screen_stack[0]
            base.query_one("#tabs", Tabs).update(pictures.as_drawn(tab_line(self.tab, width)))
            grid = base.query_one(f"#{self.tab}", Grid)
            grid.show(sheet_of(self.view, self.tab, self._wall_s()), faded=stale)
            self._draw_around(grid, stale=stale)
            base.query_one("#foot", Static).update(pictures.as_drawn(self._foot(width)))

    def _draw_head(self, now_s: float, width: int, *, stale: bool) -> None:
        base = self.screen_stack[0]
        heading = Text.from_markup(pictures.heading(self.view, width, paused=self.paused))
        if stale:
            heading = Text(heading.plain, style="dim")
        base.query_one("#head", Static).update(pictures.as_drawn(heading))
        alarm = base.query_one("#alarm", Static)
        told = self._alarm(now_s, width)
        alarm.display = bool(told.plain)
        alarm.update(pictures.as_drawn(told))

    def _alarm(self, now_s: float, width: int) -> Text:
        """Always on the screen: that the figures are old, everything that is down, whatever else is wrong."""
        lines: list[Text] = []
        if not self.paused and (old := pictures.staleness(self.view, now_s)):
            lines.append(Text.from_markup(f"[bold red]{old}[/]"))
        if down := alarms.alarm(self.view.regions, width, self._wall_s()):
            lines.append(Text(down, style="bold red"))
        if notes := pictures.notes(self.view):
            lines.append(Text.from_markup("[dim] · [/]".join(notes)))
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return Text("\n").join(lines)

    def _draw_around(self, grid: Grid, *, stale: bool) -> None:
        """The picture above the table of regions and, where there is room, the requests below it."""
        base, (width, height) = self.screen_stack[0], self.area
        picture, below = base.query_one("#overview", Static), base.query_one("#below", Grid)
        alarm = self._alarm(self._now_s(), width).plain
        used = _FRAME + (alarm.count("\n") + 1 if alarm else 0)
        rows = max(1, len(grid.rows)) + 1
        found = None
        if self.tab == "regions" and not grid.words:
            room = height - used - min(rows, _ROWS_FIRST)
            found = pictures.overview(self.view, width, room, self._wall_s())
        picture.display = found is not None
        if found is not None:
            drawn, lines = found
            picture.update(_faded(drawn) if stale else drawn)
            used += lines
        left = height - used - rows - 1
        shown = self.tab == "regions" and left >= _BELOW_MIN
        below.set_class(shown, "-shown")
        grid.styles.height = rows if shown else "1fr"
        if shown:
            below.show(traffic.requests(self.view), faded=stale)

    def _foot(self, width: int) -> Text:
        if self._message is not None and self._now_s() < self._message[1]:
            return Text.from_markup(f" {self._message[0]} ")
        self._message = None
        detail = isinstance(self.screen, DetailScreen)
        acts = not self.read_only and (self._subject() is not None)
        words = "" if detail else self.query_one(f"#{self.tab}", Grid).words
        return foot_line(width, detail=detail, acts=acts, read_only=self.read_only, words=words)

    def say(self, markup: str) -> None:
        self._message = (markup, self._now_s() + _MESSAGE_S)
        self.redraw()

    @property
    def area(self) -> Size:
        return self._area or self.size

    def on_resize(self, event: events.Resize) -> None:
        self._area = event.size
        self.redraw()

    # tabs, order, filter

    @property
    def grid(self) -> Grid:
        return self.screen_stack[0].query_one(f"#{self.tab}", Grid)

    def show_tab(self, tab: str) -> None:
        self.grid.remove_class("-shown")
        self.tab = tab
        self.grid.add_class("-shown")
        self.screen_stack[0].set_focus(self.grid)
        self.redraw()
        self.look()

    def action_show(self, tab: str) -> None:
        self.show_tab(tab)

    def action_next_tab(self, by: int) -> None:
        self.show_tab(TABS[(TABS.index(self.tab) + by) % len(TABS)])

    def action_sort(self) -> None:
        self.grid.sort_next()

    def action_sort_other_way(self) -> None:
        self.grid.sort_other_way()

    def action_filter(self) -> None:
        field = self.query_one("#filter", Input)
        field.value = self.grid.words
        field.display = True
        self.screen.set_focus(field)  # at once: what is typed next belongs there

    def action_end_filter(self) -> None:
        self.query_one("#filter", Input).display = False
        self.grid.look_for("")
        self.screen_stack[0].set_focus(self.grid)
        self.redraw()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "filter" and event.input.display:
            self.grid.look_for(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "filter":
            event.input.display = False
            self.screen_stack[0].set_focus(self.grid)
            self.redraw()

    # time

    def action_pause(self) -> None:
        self.paused = not self.paused
        self.redraw()
        self.look()

    def action_slower(self) -> None:
        self._pace(next((i for i in _INTERVALS_S if i > self.view.interval_s), _INTERVALS_S[-1]))

    def action_faster(self) -> None:
        self._pace(next((i for i in reversed(_INTERVALS_S) if i < self.view.interval_s), _INTERVALS_S[0]))

    def _pace(self, interval_s: float) -> None:
        self.view.interval_s = interval_s
        self._timer.stop()
        self._timer = self.set_interval(interval_s, self.look)
        self.say(f"a look every {interval_s:g} s")

    # looking into something

    def on_grid_opened(self, message: Grid.Opened) -> None:
        row, admin = message.row, self._ctx.admin
        tab = "requests" if message.grid.id == "below" else self.tab
        if tab == "requests":
            self._detail(f"request {row.key}", lambda: details.of_request(admin, row.key))
        elif tab == "backends":
            self._detail(f"backend {row.key}", lambda: self._backend(row), about=row.key)
        elif tab == "regions":
            self._detail(f"region {row.key}", lambda: self._region(row), about=row.key)
        elif tab == "models":
            self.show_tab("backends")
            self.grid.look_for(f"model:{row.about['model']} region:{row.about['region']}")
            self.redraw()
        elif tab == "keys":
            key = next(k for k in self.view.listed("keys") if k["id"] == row.key)
            self._detail(f"key {key['name']}", lambda: details.of_key(admin, key))
        else:
            event = next(e for e in self.view.listed("events") if e["id"] == row.key)
            self._detail("event", lambda: details.event_facts(event), changes=False)

    def _backend(self, row: Row) -> RenderableType:
        found = next((b for b in self.view.backends if b["name"] == row.key), None)
        return details.of_backend(self._ctx.admin, found) if found is not None else Text("it is not there any more")

    def _region(self, row: Row) -> RenderableType:
        found = next((r for r in self.view.regions if r["name"] == row.key), None)
        return details.of_region(self._ctx.admin, found) if found is not None else Text("it is not there any more")

    def _detail(
        self, title: str, story: Callable[[], RenderableType], *, about: str | None = None, changes: bool = True
    ) -> None:
        self.push_screen(DetailScreen(title, story, about=about, changes=changes))

    def action_help(self) -> None:
        self.push_screen(HelpScreen())

    # acting

    def _subject(self) -> str | None:
        """The region or backend that d, r and n are about."""
        if isinstance(self.screen, DetailScreen):
            return self.screen.about
        row = self.grid.current if self.tab in ("regions", "backends") else None
        return row.key if row is not None else None

    def action_drain(self) -> None:
        self._ask("drain", lambda name: actions.question(self._ctx, f"drain {name}", name))

    def action_resume(self) -> None:
        self._ask("resume", lambda name: actions.harmless(f"resume {name}", "It gets requests again."))

    def action_notice(self) -> None:
        self._ask("notice", lambda name: actions.question(self._ctx, f"notice of {name}", name))

    def _ask(self, verb: str, question: Callable[[str], Question]) -> None:
        """First what it takes away, then whether it is meant."""
        if self.read_only:
            self.say("read only: started with --read-only")
            return
        if (name := self._subject()) is None:
            self.say("only a region or a backend can be drained, resumed or given notice")
            return

        def ask() -> None:
            try:
                asked = question(name)
            except CliError as error:
                self._tell(error)
            else:
                self.deliver(lambda: self._confirm(verb, name, asked))

        self.background(ask)

    def _confirm(self, verb: str, name: str, asked: Question) -> None:
        if verb == "notice":
            self.push_screen(NoticeScreen(asked), lambda in_s: self._give_notice(name, in_s))
        else:
            self.push_screen(ConfirmScreen(asked), lambda yes: self._act(verb, name, yes=bool(yes)))

    def _act(self, verb: str, name: str, *, yes: bool) -> None:
        if not yes:
            self.say("nothing was done")
            return
        self._do(lambda: actions.SIMPLE[verb](self._ctx, name))

    def _give_notice(self, name: str, in_s: float | None) -> None:
        if in_s is None:
            self.say("nothing was done")
            return
        self._do(lambda: actions.notice(self._ctx, name, in_s))

    def _do(self, work: Callable[[], str]) -> None:
        def act() -> None:
            try:
                done = work()
            except CliError as error:
                self._tell(error)
            else:
                self.deliver(lambda: self.say(f"✓ {escape(done)}"))
                self.deliver(self.look)

        self.background(act)

    def _tell(self, error: CliError) -> None:
        words = f"error: {escape(error.message)}"
        self.deliver(lambda: self.say(words))


def _faded(drawn: RenderableType) -> RenderableType:
    from rich.styled import Styled

    return Styled(drawn, "dim")
