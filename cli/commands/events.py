"""router events: the history of the fleet: what changed, when, why and by whom."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import units
from cli.commands.traffic import span_s
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit, StatusError
from cli.output import Table

Json = dict[str, Any]

_PATH = "/admin/v1/events"
#: What --follow shows of the past, without --since.
_PAST = 10
_AGAIN_S = 1.0
#: Events of another router may come this much later than they happened.
_LATE_S = 30.0
_TOLD = 1000
#: kind -> words of a state that are worth a colour
_COLOURS = {
    "ejected": "red",
    "down": "red",
    "refused": "red",
    "away": "red",
    "expired": "red",
    "failed": "red",
    "gone": "red",
    "overloaded": "red",
    "suspect": "yellow",
    "doubted": "yellow",
    "draining": "cyan",
    "leaving": "cyan",
    "probation": "cyan",
    "asleep": "cyan",
    "strained": "yellow",
    "calm": "green",
    "waking": "cyan",
    "healthy": "green",
    "heard": "green",
    "running": "green",
    "up": "green",
    "resumed": "green",
    "passed": "green",
    "back": "green",
    "serving": "green",
}


@dataclass(frozen=True, slots=True)
class EventsOptions:
    follow: bool
    since: str | None
    region: str | None
    backend: str | None
    kind: str | None
    router: str | None
    limit: int
    as_json: bool

    def query(self) -> dict[str, object]:
        return {"region": self.region, "backend": self.backend, "kind": self.kind, "router": self.router}


def command(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events, until Ctrl-C.")] = False,
    since: Annotated[str | None, typer.Option(metavar="SPAN", help="Only the last 30s, 5m, 2h, 1d.")] = None,
    region: Annotated[str | None, typer.Option(help="Only this region and its backends.")] = None,
    backend: Annotated[str | None, typer.Option(help="Only this backend, as REGION/BACKEND.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only this kind, or several: health, drain, config, key, store, operator, ...")
    ] = None,
    router: Annotated[str | None, typer.Option(help="Only what this router has seen or was told.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=5000, help="At most this many.")] = 50,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """The history of all routers that share the store: changes, when, why and by whom; the newest at the bottom."""
    options = EventsOptions(follow, since, region, backend, kind, router, limit, as_json)
    context(ctx, admin_url, admin_token).run(run_follow if follow else run_list, options)


def run_list(ctx: Context, options: EventsOptions) -> None:
    since_s = time.time() - span_s(options.since) if options.since is not None else None
    answer = ctx.admin.get(_PATH, limit=options.limit, since_s=since_s, **options.query())
    if options.as_json:
        ctx.out.json(answer)
        return
    if not answer["data"]:
        ctx.out.note("No such events." if any(options.query().values()) or options.since else "No events yet.")
        return
    ctx.out.line(events_table(answer["data"]))
    if len(answer["data"]) == options.limit:
        ctx.out.note(f"The last {options.limit}; --limit shows more.")


def run_follow(ctx: Context, options: EventsOptions, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Also through a restart of the router: what happened meanwhile is shown when it is back."""
    told: deque[str] = deque(maxlen=_TOLD)
    since_s = time.time() - span_s(options.since) if options.since is not None else None
    past, connected = options.limit if options.since is not None else _PAST, False
    try:
        while True:
            try:
                for event in ctx.admin.tail(f"{_PATH}/tail", past=past, since_s=since_s, **options.query()):
                    document = json.loads(event.data)
                    connected = True
                    if document["id"] not in told:
                        told.append(document["id"])
                        since_s, past = document["at_s"] - _LATE_S, _TOLD
                        _show(ctx, document, options)
            except CliError as error:
                if error.code is not Exit.UNREACHABLE or not connected:
                    raise
            else:
                ctx.out.note("The connection to the router is lost; waiting for it.")
                connected = True
            sleep(_AGAIN_S)
    except KeyboardInterrupt:
        return


def _show(ctx: Context, document: Json, options: EventsOptions) -> None:
    if options.as_json:
        ctx.out.json_line(document)
    else:
        ctx.out.line(event_line(document))


def events_table(events: list[Json]) -> Table:
    """``events`` as the router lists them, the newest first; here it stands at the bottom."""
    columns = ("time", "ago", "kind", "subject", "change", "why", "who", "router")
    made = Table(columns, right=("ago",), drop=("router", "ago", "who"))
    now_s = time.time()
    for event in reversed(events):
        made.add_row(*event_cells(event, now_s))
    return made


def print_history(ctx: Context, **about: str) -> None:
    """The last ten events about a region or a backend."""
    try:
        events = ctx.admin.get(_PATH, limit=10, **about)["data"]
    except StatusError as error:
        if error.status not in (400, 404):
            raise
        events = []  # a router before this version, or only another router has it
    if events:
        ctx.out.line("")
        ctx.out.line(events_table(events))


def event_cells(event: Json, now_s: float) -> list[str]:
    from rich.markup import escape

    return [
        f"[dim]{units.clock(event['at_s'])}[/]",
        units.age(max(0.0, now_s - event["at_s"])),
        event["kind"],
        f"[bold]{escape(event['subject'])}[/]",
        change(event),
        escape(event["why"] or ""),
        escape(event["who"] or ""),
        f"[dim]{escape(event['router'])}[/]",
    ]


def event_line(event: Json) -> str:
    """One event on a line of its own, in columns that need no table."""
    when, _, kind, subject, changed, why, who, router = event_cells(event, time.time())
    by = f"[dim]by[/] {who}" if who else ""
    return "  ".join(part for part in (when, f"{kind:<8}", subject, changed, why, by, router) if part)


def change(event: Json) -> str:
    """``healthy → ejected``."""
    from rich.markup import escape

    words = []
    for word in (event["from"], event["to"]):
        if word:
            colour = _COLOURS.get(word)
            words.append(f"[{colour}]{escape(word)}[/]" if colour else escape(word))
    return " → ".join(words)
