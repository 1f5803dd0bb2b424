"""router top: the fleet and its traffic, live."""

from __future__ import annotations

import contextlib
import select
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import charts, units, worldmap
from cli.commands.status import title
from cli.commands.traffic import request_cells, requests_table
from cli.context import AdminToken, AdminUrl, Context, context
from cli.errors import CliError, Exit
from cli.output import STATE_STYLE
from cli.region_tables import regions_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Json = dict[str, Any]

_HISTORY = 300
#: Lines besides requests: title, headings, blank lines.
_ROWS_AROUND = 7
_CHART_LINES = 4
#: From these on there is room for a map, with the charts beside it.
_MAP_WIDTH, _MAP_HEIGHT = 116, 38


@dataclass(frozen=True, slots=True)
class TopOptions:
    interval_s: float


@dataclass(slots=True)
class View:
    """The values read so far, the newest last."""

    status: Json | None = None
    regions: list[Json] = field(default_factory=list)
    requests: list[Json] = field(default_factory=list)
    trouble: str | None = None
    requests_per_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    tokens_per_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    ttft_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=_HISTORY))
    inflight: deque[float | None] = field(default_factory=lambda: deque(maxlen=_HISTORY))


def command(
    ctx: typer.Context,
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.2, help="Refresh interval, seconds.")] = 1.0,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """The fleet and its traffic, live. q or Ctrl-C ends it."""
    context(ctx, admin_url, admin_token).run(run_top, TopOptions(interval))


def run_top(ctx: Context, options: TopOptions) -> None:
    if not ctx.out.is_tty:
        raise CliError("top needs a terminal", code=Exit.USAGE, hint="`router status --json` is for scripts.")
    from rich.live import Live

    view = View()
    look(ctx, view)
    if view.status is None:
        ctx.admin.get("/admin/v1/status")  # raises if the first reading fails
    with _keys() as pressed, Live(console=ctx.out.console, screen=True, auto_refresh=False) as live:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                live.update(render(view, ctx.out.width, ctx.out.height), refresh=True)
                if pressed(options.interval_s) == "q":
                    break
                look(ctx, view)


def look(ctx: Context, view: View) -> None:
    """Ask the router once. When it does not answer the view keeps what it has and says so."""
    try:
        view.status = ctx.admin.get("/admin/v1/status")
        view.regions = ctx.admin.get("/admin/v1/regions")["data"]
        view.requests = ctx.admin.get("/admin/v1/requests", limit=100)["data"]
    except CliError as error:
        view.trouble = error.message
        for history in (view.requests_per_s, view.tokens_per_s, view.ttft_s, view.inflight):
            history.append(None)
        return
    view.trouble = None
    traffic = view.status["traffic"]
    view.requests_per_s.append(traffic["requests_per_s"])
    view.tokens_per_s.append(traffic["output_tokens_per_s"])
    view.ttft_s.append(traffic["ttft_s_p50"])
    view.inflight.append(traffic["inflight"])


def render(view: View, width: int, height: int) -> RenderableType:
    """One screen: with a map if there is room, else the charts in its place."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table as Grid
    from rich.text import Text

    head = title(view.status) if view.status is not None else ""
    if view.trouble is not None:
        head = f"[red]●[/] {escape(view.trouble)}"
    marks = region_marks(view.regions)
    top: RenderableType = Group(*lines(view, width))
    taken = _CHART_LINES
    if marks and width >= _MAP_WIDTH and height >= _MAP_HEIGHT:
        grid = Grid.grid(padding=(0, 3, 0, 0))
        grid.add_row(Group(*worldmap.draw(marks)), Group(*stacked(view, width - worldmap.COLUMNS - 3)))
        top, taken = grid, worldmap.LINES
    made = requests_table()
    for summary in view.requests[: max(0, height - taken - len(view.regions) - _ROWS_AROUND)]:
        made.add_row(*request_cells(summary))
    return Group(Text.from_markup(head), Text(), top, Text(), regions_table(view.regions), Text(), made)


def region_marks(regions: list[Json]) -> list[worldmap.Mark]:
    """The regions on the map: their state as a colour, what is in flight as a number."""
    return [
        worldmap.Mark(r["location"], f"{r['name']} {units.count(r['inflight'])}", STATE_STYLE.get(r["state"], "white"))
        for r in regions
        if r["location"]
    ]


def charts_of(view: View) -> list[tuple[str, str, str, deque[float | None], str]]:
    """The charts: name, value now, unit, history, colour."""
    traffic = view.status["traffic"] if view.status is not None else {}
    queued = f"{units.count(traffic['queued'])} waiting" if traffic.get("queued") else ""
    requests, tokens = units.rate(traffic.get("requests_per_s")), units.rate(traffic.get("output_tokens_per_s"))
    ttft, inflight = units.seconds(traffic.get("ttft_s_p50")), units.count(traffic.get("inflight"))
    return [
        ("requests", requests, "a second", view.requests_per_s, "cyan"),
        ("tokens", tokens, "a second", view.tokens_per_s, "magenta"),
        ("first token", ttft, "p50", view.ttft_s, "yellow"),
        ("in flight", inflight, queued, view.inflight, "green"),
    ]


def lines(view: View, width: int) -> list[Text]:
    """Each chart on one line."""
    from rich.text import Text

    columns = max(10, min(120, width - 37))
    return [
        Text.assemble(
            (f"{name:<13}", "dim"),
            (f"{now:>7} ", "bold"),
            (f"{unit:<13}", "dim"),
            (charts.sparkline(history, columns), colour),
        )
        for name, now, unit, history, colour in charts_of(view)
    ]


def stacked(view: View, width: int) -> list[Text]:
    """Each chart under its heading, two lines high; together they are as high as the map."""
    from rich.text import Text

    made: list[Text] = []
    for name, now, unit, history, colour in charts_of(view):
        made.append(Text.assemble((f"{name}  ", "dim"), (now, "bold"), (f" {unit}", "dim")))
        made += [Text(row, style=colour) for row in charts.columns(history, width, 2)]
        made.append(Text())
    return made


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits for a key up to a number of seconds and returns it, or None."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield time.sleep
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def pressed(wait_s: float) -> str | None:
        ready, _, _ = select.select([sys.stdin], [], [], wait_s)
        return sys.stdin.read(1) if ready else None

    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
