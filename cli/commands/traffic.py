"""router traffic: past requests, and new ones as they finish."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import tail_view, units
from cli.client import segment
from cli.commands.explain import print_decision, refused, request_id_of
from cli.commands.keys import find_key, names_of_keys
from cli.context import AdminToken, AdminUrl, AsJson, Context, Router, context
from cli.errors import CliError, Exit
from cli.output import Table, dotted, escape, facts
from cli.waterfall import waterfall
from cli.why import sentence
from router import moments

if TYPE_CHECKING:
    from rich.table import Table as Grid

Json = dict[str, Any]

group = typer.Typer(help="Recent and live requests.", no_args_is_help=True)

Model = Annotated[str | None, typer.Option(help="Only this model.")]
Tenant = Annotated[str | None, typer.Option(help="Only this tenant.")]
Backend = Annotated[str | None, typer.Option(help="Only this backend or region.")]
Status = Annotated[str | None, typer.Option(help="Only this HTTP status, or a class: 5xx.")]
Region = Annotated[str | None, typer.Option(help="Only this region.")]
KeyOf = Annotated[str | None, typer.Option("--key", metavar="KEY", help="Only this API key: its id or name.")]
SlowerThan = Annotated[
    str | None,
    typer.Option("--slower-than", metavar="SPAN", help="Only with a later first token, or longer if not streamed."),
]

_WINDOW_S_MAX = 15 * 60  # the router keeps this many
_USAGE_S_MAX = 24 * 3600  # and these by the minute


@dataclass(frozen=True, slots=True)
class Filters:
    model: str | None = None
    tenant: str | None = None
    backend: str | None = None
    status: str | None = None
    region: str | None = None
    key: str | None = None  # its id or name
    slower_than: str | None = None  # a span

    def query(self, ctx: Context) -> Json:
        slower_s = span_s(self.slower_than) if self.slower_than is not None else None
        key_id = find_key(ctx.admin, self.key)["id"] if self.key is not None else None
        named = {"model": self.model, "tenant": self.tenant, "backend": self.backend, "status": self.status}
        return named | {"region": self.region, "key": key_id, "slower_than_s": slower_s}


@dataclass(frozen=True, slots=True)
class ListOptions:
    filters: Filters
    limit: int
    since: str | None
    as_json: bool
    sort: str | None = None
    router: str | None = None


@dataclass(frozen=True, slots=True)
class TailOptions:
    filters: Filters
    as_json: bool


@dataclass(frozen=True, slots=True)
class ShowOptions:
    request_id: str
    as_json: bool
    router: str | None = None


@dataclass(frozen=True, slots=True)
class StatsOptions:
    window: str | None
    as_json: bool
    router: str | None = None
    since: str | None = None
    by: str | None = None
    sort: str | None = None


@group.command("list")
def list_(
    ctx: typer.Context,
    model: Model = None,
    tenant: Tenant = None,
    backend: Backend = None,
    status: Status = None,
    region: Region = None,
    key: KeyOf = None,
    slower_than: SlowerThan = None,
    sort: Annotated[
        str | None, typer.Option(help="The largest first: ttft, duration, wait, tokens, attempts. Default: by time.")
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="SPAN", help="Only the last 30s, 5m, 2h, 1d.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most this many.")] = 20,
    router: Router = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """The last requests, the newest at the bottom; with --sort the largest at the top."""
    filters = Filters(model, tenant, backend, status, region, key, slower_than)
    options = ListOptions(filters, limit, since, as_json, sort, router)
    context(ctx, admin_url, admin_token).run(run_list, options)


@group.command("tail")
def tail(
    ctx: typer.Context,
    model: Model = None,
    tenant: Tenant = None,
    backend: Backend = None,
    status: Status = None,
    region: Region = None,
    key: KeyOf = None,
    slower_than: SlowerThan = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Requests as they finish, until Ctrl-C. With --json one document on each line."""
    options = TailOptions(Filters(model, tenant, backend, status, region, key, slower_than), as_json)
    context(ctx, admin_url, admin_token).run(run_tail, options)


@group.command("show")
def show(
    ctx: typer.Context,
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Its x-request-id, or 'last'.")],
    router: Router = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """One request: why it went where it went, what happened there, and how long each part took."""
    context(ctx, admin_url, admin_token).run(run_show, ShowOptions(request_id, as_json, router))


@group.command("stats")
def stats(
    ctx: typer.Context,
    window: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="How far to look back: 30s, 5m; at most 15m, with --by or --sort 24h. [60s]"),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="SPAN", help="The same by the minute: 1h, 24h at most.")] = None,
    by: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Some of region,model,key,tenant,backend,outcome. Default: model."),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="The largest first: requests, cost, errors, tokens or ttft.")] = None,
    router: Router = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Requests, tokens and first tokens by region, model, tenant and cause."""
    context(ctx, admin_url, admin_token).run(run_stats, StatsOptions(window, as_json, router, since, by, sort))


def run_list(ctx: Context, options: ListOptions) -> None:
    since_s = time.time() - span_s(options.since) if options.since is not None else None
    query = options.filters.query(ctx) | {"router": options.router}
    answer = ctx.admin.get("/admin/v1/requests", limit=options.limit, since_s=since_s, sort=options.sort, **query)
    if options.as_json:
        ctx.out.json(answer)
    elif answer["data"]:
        made = requests_table()
        for summary in answer["data"] if options.sort else reversed(answer["data"]):
            made.add_row(*request_cells(summary))
        ctx.out.line(made)
        ctx.scope(answer)
        shown, matching = len(answer["data"]), answer.get("matching", 0)
        if matching > shown:
            ctx.out.note(f"{shown} of {units.count(matching)} matching requests; -n {min(1000, matching)} shows more")
    else:
        ctx.out.note("No such requests. `router chat PROMPT` sends one.")


def run_tail(ctx: Context, options: TailOptions) -> None:
    try:
        query, room = {n: v for n, v in options.filters.query(ctx).items() if v is not None}, ctx.out.width
        if not options.as_json:
            which = ", ".join(f"{name} {value}" for name, value in query.items())
            ctx.out.note(f"waiting for requests{f' ({which})' if which else ''} at {ctx.admin.url} …")
            ctx.out.note(tail_view.heading(room))
        for event in ctx.admin.tail("/admin/v1/requests/tail", **query):
            document = json.loads(event.data)
            if event.name == "dropped":
                ctx.out.warn(f"{units.plural(document['records'], 'request')} not shown: they came too fast")
            elif options.as_json:
                ctx.out.json_line(document)
            else:
                ctx.out.line(tail_view.line(dict(zip(REQUEST_COLUMNS, request_cells(document), strict=True)), room))
    except KeyboardInterrupt:
        return
    raise CliError("connection to the router lost", code=Exit.UNREACHABLE)


def run_show(ctx: Context, options: ShowOptions) -> None:
    record = ctx.admin.get(
        f"/admin/v1/requests/{segment(request_id_of(ctx, options.request_id))}", router=options.router
    )
    if options.as_json:
        ctx.out.json(record)
        return
    print_story(ctx, record)
    if record["attempts"]:
        ctx.out.line("")
        ctx.out.line(waterfall(record))
    if record["decision"]["candidates"]:
        ctx.out.line("")
        print_decision(ctx, record["decision"])


def print_story(ctx: Context, record: Json) -> None:
    """Why it was slow, in a sentence, and all facts about it."""
    ctx.out.line(escape(sentence(record)))
    ctx.out.line("")
    ctx.out.line(request_facts(record))


def run_stats(ctx: Context, options: StatsOptions) -> None:
    if options.window is not None and options.since is not None:
        raise CliError("--window and --since both say how far to look back: give one of them", code=Exit.USAGE)
    if options.since or options.by or options.sort:
        run_usage(ctx, options)
        return
    window_s = span_s(options.window) if options.window is not None else None
    if window_s is not None and not 1 <= window_s <= _WINDOW_S_MAX:
        raise CliError(f"--window must be between 1s and 15m, not {options.window}", code=Exit.USAGE)
    answer = ctx.admin.get("/admin/v1/stats", window_s=window_s, router=options.router)
    if options.as_json:
        ctx.out.json(answer)
        return
    ctx.out.note(f"the last {units.age(answer['window_s'])}")
    if not answer["requests"]:
        ctx.out.note("No requests; --window 15m looks back farther.")
        return
    columns = (" ", "", "requests", "a second", "failed", "tokens/s", "first token p50", "p90", "p99")
    made = Table(columns, right=columns[2:], drop=("p90", "a second", "tokens/s"))
    made.add_row("[bold]all[/]", "", *_stat_cells(answer))
    for group_name in ("region", "model", "tenant", "cause"):
        label = group_name
        for entry in answer[f"by_{group_name}"]:
            made.add_row(f"[dim]{label}[/]", entry["name"] or units.UNKNOWN, *_stat_cells(entry))
            label = ""  # once for each group
    ctx.out.line(made)
    ctx.scope(answer)


def run_usage(ctx: Context, options: StatsOptions) -> None:
    """The same for up to a day, by what one likes."""
    since = options.since or options.window or "1h"
    since_s = span_s(since)
    if options.window is not None and not 60 <= since_s <= _USAGE_S_MAX:
        message = f"with --by or --sort --window must be between 1m and 24h, not {options.window}"
        raise CliError(message, code=Exit.USAGE)
    query = {"since_s": since_s, "by": options.by, "sort": options.sort, "router": options.router}
    answer = ctx.admin.get("/admin/v1/usage", **query)
    if options.as_json:
        ctx.out.json(answer)
        return
    ctx.out.note(f"the last {since}, by the minute")
    columns = (*answer["by"], "requests", "failed", "tokens", "cost", "first token p50", "p99")
    made = Table(columns, right=columns[len(answer["by"]) :], drop=("p99",))
    keys = names_of_keys(ctx.admin) if "key" in answer["by"] else {}
    for row in [*answer["data"], dict.fromkeys(answer["by"], "all") | answer["total"]]:
        names = [escape(keys.get(row[name], str(row[name] or units.UNKNOWN))) for name in answer["by"]]
        tokens = f"{units.count(row['prompt_tokens'])} → {units.count(row['output_tokens'])}"
        ttft = row["ttft_s"]
        made.add_row(
            *names,
            units.count(row["requests"]),
            units.count(row["errors"]),
            tokens,
            units.usd(row["cost_usd"]),
            units.seconds(ttft["p50"]),
            units.seconds(ttft["p99"]),
        )
    ctx.out.line(made)
    ctx.scope(answer)


def span_s(text: str) -> float:
    """``30s``, ``5m``, ``2h``, ``1d`` or plain seconds. Raises CliError."""
    found_s = moments.span_s(text)
    if found_s is None:
        raise CliError(f'invalid duration "{text}" (use 30s, 5m, 2h, 1d)', code=Exit.USAGE)
    return found_s


REQUEST_COLUMNS = ("time", "request", "status", "model", "backend", "first token", "in all", "tokens", "tenant", "")


def requests_table() -> Table:
    drop = ("tenant", "tokens", "time", "in all", "model", "")
    return Table(REQUEST_COLUMNS, right=("first token", "in all", "tokens"), drop=drop)


def request_cells(summary: Json) -> list[str]:
    """One request as a row of ``requests_table``."""
    return [
        f"[dim]{units.clock(summary['arrival_s'])}[/]",
        escape(summary["request_id"]),
        status_text(summary["status"]),
        model_words(summary),
        summary["backend"] or units.UNKNOWN,
        units.seconds(summary["ttft_s"]),
        units.seconds(summary["duration_s"]),
        f"{units.count(summary['prompt_tokens'])} → {units.count(summary['output_tokens'])}",
        escape(summary["tenant"]),
        remark(summary),
    ]


def model_words(summary: Json) -> str:
    """The model as the client asked for it, and the one that answered if that has another name."""
    asked, served = summary["model"], summary.get("served_model")
    other = f" → {served}" if served and served != asked else ""
    return escape(f"{asked or units.UNKNOWN}{other}")


def status_text(status: int) -> str:
    colour = "green" if status < 400 else "yellow" if status < 500 else "red"
    return f"[{colour}]{status or units.UNKNOWN}[/]"


def remark(summary: Json) -> str:
    """Words for what was unusual about a request, if anything was."""
    said = []
    if summary["error"]:
        said.append(f"[yellow]{summary['error']}[/]")
    elif summary["cause"] not in ("ok", "refused"):
        said.append(f"[yellow]{summary['cause']}[/]")
    if summary["attempts"] > 1:
        said.append(f"{summary['attempts']} attempts")
    if (waited := waits(summary)) is not None:
        said.append(waited)
    return ", ".join(said)


def waits(record: Json) -> str | None:
    """How long it waited, and for what."""
    held_s = record.get("held_s") or 0.0
    wait_s = record["wait_s"] - held_s
    held = f"held {units.seconds(held_s)} for a wake" if held_s > 0.001 else None
    return dotted(f"waited {units.seconds(wait_s)}" if wait_s > 0.001 else None, held) or None


def request_facts(record: Json) -> Grid:
    streamed = "streamed" if record["stream"] else "not streamed"
    served = record["served_model"]
    other = f"answered by {escape(served)}" if served and served != record["model"] else None
    key = f"key {record['key_id']}" if record["key_id"] else None
    law = f"only in {', '.join(record['residency'])}" if record["residency"] else None
    recalled = ", before it was restarted" if record.get("recalled") else ""
    router = f"router {escape(record['router'])}{recalled}" if record.get("router") else None
    lasted = f"{units.seconds(record['duration_s'])} in all"
    first = f"first token after {units.seconds(record['ttft_s'])}" if record["ttft_s"] is not None else None
    place = f"from {escape(record['client_region'])}" if record["client_region"] else None
    error = f"[yellow]{record['error'] or record['cause']}[/]" if record["cause"] != "ok" or record["error"] else None
    cut = f"not continued: {record['not_continued']}" if record.get("not_continued") else None
    loop = repetition(record)
    return facts(
        {
            "request": dotted(f"[bold]{escape(record['request_id'])}[/]", router),
            "arrived": dotted(units.clock(record["arrival_s"]), f"{record['method']} {record['path']}", streamed),
            "model": dotted(escape(record["model"] or units.UNKNOWN), other),
            "for": dotted(f"tenant {escape(record['tenant'])}", place, key, record["plan"], record["priority"], law),
            "answer": dotted(status_text(record["status"]), error, cut, loop, waits(record), first, lasted),
            "why": refused(record) or (escape(record["degraded"]) if other and record.get("degraded") else None),
            "tokens": _tokens(record),
            "body": dotted(_body(record), f"trace {escape(record['trace_id'])}" if record.get("trace_id") else None),
        }
    )


def _body(record: Json) -> str | None:
    """How long the request was, and how much of its beginning is known to the index of prefixes."""
    if not record.get("body_bytes"):
        return None
    blocks = record.get("prefix_blocks") or 0
    return units.plural(record["body_bytes"], "byte") + (f", {units.plural(blocks, 'prefix block')}" if blocks else "")


def repetition(record: Json) -> str | None:
    """Words for an answer that repeated itself."""
    if not record.get("repetition"):
        return None
    bytes_, tokens = units.count(record["repetition_bytes"]), units.count(record["repetition_tokens"])
    ended = ", and was ended" if record["repetition"] == "stopped" else ""
    return f"[yellow]repeated {bytes_} bytes[/], noticed after {tokens} tokens{ended}"


def _tokens(record: Json) -> str:
    cached, asked = record["cached_tokens"], record["attempts"]
    speed = tokens_per_s(record)
    return dotted(
        f"{units.count(record['prompt_tokens'])} prompt",
        f"{units.count(cached)} of them cached" if cached else None,
        f"{units.count(record['output_tokens'])} answer",
        f"{units.rate(speed)} a second" if speed else None,
        units.usd(record["cost_usd"]) if record.get("cost_usd") else None,
        None if record["usage_reported"] or not asked else "[dim]estimated (engine reported no usage)[/]",
    )


def tokens_per_s(record: Json) -> float | None:
    """How fast the answer streamed, from its first token to its last."""
    if record["ttft_s"] is None or record["output_tokens"] < 2:
        return None
    span = record["duration_s"] - record["ttft_s"]
    return (record["output_tokens"] - 1) / span if span > 0 else None


def _stat_cells(entry: Json) -> list[str]:
    failed = units.count(entry["errors"]) if not entry["errors"] else f"[red]{units.count(entry['errors'])}[/]"
    ttft = entry["ttft_s"]
    return [
        units.count(entry["requests"]),
        units.rate(entry["requests_per_s"]),
        failed,
        units.rate(entry["output_tokens_per_s"]),
        *(units.seconds(ttft[q]) for q in ("p50", "p90", "p99")),
    ]
