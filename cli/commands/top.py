"""router top: the fleet and its traffic, live, and what an operator does about it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated

import typer

from cli.context import AdminToken, AdminUrl, Context, Router, context
from cli.errors import CliError, Exit, unknown

#: The first one is shown at first.
TABS = ("regions", "backends", "models", "keys", "requests", "events")


@dataclass(frozen=True, slots=True)
class TopOptions:
    interval_s: float
    router: str | None = None
    once: bool = False
    read_only: bool = False
    tab: str = TABS[0]
    words: str = ""


def command(
    ctx: typer.Context,
    tab: Annotated[str, typer.Argument(metavar="[TAB]", help=f"The tab to begin with: {', '.join(TABS)}.")] = TABS[0],
    interval: Annotated[float, typer.Option("--interval", "-i", min=0.2, help="Refresh interval, seconds.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one frame and end: for pipes and scripts.")] = False,
    words: Annotated[
        str, typer.Option("--filter", metavar="WORDS", help="With --once: only rows with these words, as / does it.")
    ] = "",
    read_only: Annotated[bool, typer.Option("--read-only", help="No drain, resume or notice.")] = False,
    router: Router = None,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """The fleet and its traffic, live: regions, backends, models, keys, requests, events. ? shows the keys, q ends it.

    Enter looks into a row; d, r and n drain, resume or give notice, and say first what that takes away.
    """
    options = TopOptions(interval, router, once, read_only, tab, words)
    context(ctx, admin_url, admin_token).run(run_top, options)


def run_top(ctx: Context, options: TopOptions) -> None:
    if options.tab not in TABS:
        raise unknown("tab", options.tab, TABS)
    if options.once:
        _print_frame(ctx, options)
        return
    if not (ctx.out.is_tty and sys.stdin.isatty() and sys.stderr.isatty()):
        hint = "--once prints one frame; `router status --json` is for scripts."
        raise CliError("top needs a terminal", code=Exit.USAGE, hint=hint)
    ctx.admin.get("/admin/v1/status", router=options.router)  # raises if nobody answers, or there is no such router
    from cli.top.app import Top

    Top(
        ctx,
        interval_s=options.interval_s,
        router=options.router,
        read_only=options.read_only,
        tab=options.tab,
    ).run()


def _print_frame(ctx: Context, options: TopOptions) -> None:
    from cli.top import once, polling
    from cli.top.view import View

    ctx.admin.get("/admin/v1/status", router=options.router)  # the same
    view = View(options.interval_s)
    reading = polling.read(ctx.admin, polling.needed(options.tab), options.router)
    if reading.trouble is not None:
        raise CliError(reading.trouble, code=Exit.UNREACHABLE)
    view.take(reading, time.monotonic(), time.time())
    once.frame(ctx.out, view, options.tab, time.time(), words=options.words)
