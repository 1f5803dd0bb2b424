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

from cli import charts, units
from cli.commands.regions import regions_table
from cli.commands.status import title
from cli.commands.traffic import request_cells, requests_table
from cli.context import AdminToken, AdminUrl, Context, context
from cli.errors import CliError, Exit
from cli.output import facts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Json = dict[str, Any]

_HISTORY = 300
#: Rows that are no requests: title, facts, headings, blank lines.
_ROWS_AROUND = 11


@dataclass(frozen=True, slots=True)
class TopOptions:
    interval_s: float


@dataclass(slots=True)
class View:
    """What has been seen so far; the newest values are the last."""

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
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.2, help="Seconds between two looks.")] = 1.0,
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
        ctx.admin.get("/admin/v1/status")  # raises what the first look met
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
    """One screen."""
    from rich.console import Group
    from rich.markup import escape
    from rich.text import Text

    head = title(view.status) if view.status is not None else ""
    if view.trouble is not None:
        head = f"[red]●[/] {escape(view.trouble)}"
    made = requests_table()
    for summary in view.requests[: max(0, height - _ROWS_AROUND - len(view.regions))]:
        made.add_row(*request_cells(summary))
    parts: list[RenderableType] = [Text.from_markup(head), Text(), lines(view, width), Text()]
    return Group(*parts, regions_table(view.regions), Text(), made)


def lines(view: View, width: int) -> Table:
    """The last minutes as small charts."""
    columns = max(10, min(120, width - 36))

    def line(history: deque[float | None], show: str, unit: str, colour: str) -> str:
        return f"[bold]{show:>7}[/] [dim]{unit:<12}[/] [{colour}]{charts.sparkline(history, columns)}[/]"

    traffic = view.status["traffic"] if view.status is not None else {}
    queued = f"{units.count(traffic['queued'])} waiting" if traffic.get("queued") else ""
    return facts(
        {
            "requests": line(view.requests_per_s, units.rate(traffic.get("requests_per_s")), "a second", "cyan"),
            "tokens": line(view.tokens_per_s, units.rate(traffic.get("output_tokens_per_s")), "a second", "magenta"),
            "first token": line(view.ttft_s, units.seconds(traffic.get("ttft_s_p50")), "half within", "yellow"),
            "in flight": line(view.inflight, units.count(traffic.get("inflight")), queued, "green"),
        }
    )


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds for a key and returns it; None when there was none."""
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
