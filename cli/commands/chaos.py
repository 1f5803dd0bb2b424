"""router chaos: attempts fail on purpose for a while, at a backend, in a region, or for a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import confirm, units
from cli.client import segment
from cli.commands.traffic import span_s
from cli.confirm import Force
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit
from cli.output import Table

Json = dict[str, Any]

group = typer.Typer(help="Make attempts fail on purpose, for a while.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class StartOptions:
    target: str | None
    fault: Json  # what was asked for, as the admin API takes it: one of them is right
    faults: int
    key: str | None
    share: str | None
    span: str
    as_json: bool
    force: bool = False


@dataclass(frozen=True, slots=True)
class StopOptions:
    target: str | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class ListOptions:
    as_json: bool


#: Faults that no request fails of.
_HARMLESS = frozenset({"delay", "slow", "stale_metrics"})

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]", help="A region, or a backend as REGION/BACKEND. With --key it may be left out: all."
    ),
]


@group.command("start")
def start(
    ctx: typer.Context,
    target: Target = None,
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse connections.")] = False,
    blackhole: Annotated[bool, typer.Option("--blackhole", help="Swallow connections silently.")] = False,
    delay_ms: Annotated[
        float | None, typer.Option(min=1, max=3_600_000, help="Delay each attempt by this many milliseconds.")
    ] = None,
    slow: Annotated[
        float | None, typer.Option(metavar="FACTOR", min=1, max=1000, help="Slow answers down by this factor.")
    ] = None,
    stall_after: Annotated[
        int | None,
        typer.Option(metavar="TOKENS", min=0, max=1_000_000, help="Stall each answer after this many tokens."),
    ] = None,
    cut_after: Annotated[
        int | None, typer.Option(metavar="TOKENS", min=0, max=1_000_000, help="Cut each answer after this many tokens.")
    ] = None,
    status: Annotated[
        int | None, typer.Option(metavar="CODE", min=300, max=599, help="Answer each attempt with this status.")
    ] = None,
    stale_metrics: Annotated[
        bool, typer.Option("--stale-metrics", help="Freeze the load that engines report.")
    ] = False,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Only for requests of the key with this id.")] = None,
    share: Annotated[str | None, typer.Option(metavar="SHARE", help="Only for a share of them: 20%.")] = None,
    span: Annotated[str, typer.Option("--for", metavar="SPAN", help="How long: 30s, 5m, at most 1h.")] = "60s",
    force: Force = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Begin a fault, at every router of the store. The routers must allow it: [router] chaos = true.

    Probes do not notice, only traffic does. Records tell which attempt met it. If a model, a jurisdiction or a plan has
    no other backend, it asks first.
    """
    wanted: list[Json | None] = [
        {"fault": "refuse"} if refuse else None,
        {"fault": "blackhole"} if blackhole else None,
        None if delay_ms is None else {"fault": "delay", "delay_s": delay_ms / 1000},
        None if slow is None else {"fault": "slow", "factor": slow},
        None if stall_after is None else {"fault": "stall", "after_tokens": stall_after},
        None if cut_after is None else {"fault": "cut", "after_tokens": cut_after},
        None if status is None else {"fault": "status", "status": status},
        {"fault": "stale_metrics"} if stale_metrics else None,
    ]
    asked = [fault for fault in wanted if fault is not None]
    options = StartOptions(target, asked[0] if asked else {}, len(asked), key, share, span, as_json, force)
    context(ctx, admin_url, admin_token).run(run_start, options)


@group.command("stop")
def stop(
    ctx: typer.Context,
    target: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A region or backend. Default: all.")] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """End faults before their time, at every router of the store."""
    context(ctx, admin_url, admin_token).run(run_stop, StopOptions(target, as_json))


@group.command("clear")
def clear(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """End every fault, at every router of the store."""
    context(ctx, admin_url, admin_token).run(run_stop, StopOptions(None, as_json))


@group.command("list")
def list_(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """The active faults."""
    context(ctx, admin_url, admin_token).run(run_list, ListOptions(as_json))


def run_start(ctx: Context, options: StartOptions) -> None:
    if options.faults != 1:
        flags = "--refuse, --blackhole, --delay-ms, --slow, --stall-after, --cut-after, --status, --stale-metrics"
        raise CliError("say one fault", code=Exit.USAGE, hint=f"One of {flags}.")
    if options.target is None and options.key is None:
        raise CliError("say where", code=Exit.USAGE, hint="Name a region or backend, or a key with --key.")
    named = {"target": options.target, "key": options.key}
    body = options.fault | {k: v for k, v in named.items() if v is not None} | {"for_s": span_s(options.span)}
    if options.share is not None:
        body["share"] = _share(options.share)
    if options.target is not None and options.key is None and options.fault["fault"] not in _HARMLESS:
        losses = confirm.lost(confirm.place_losses(ctx, options.target))
        confirm.confirm(ctx, f"break {options.target} on purpose", losses, force=options.force)
    _show(ctx, ctx.admin.post("/admin/v1/chaos", body), options.as_json)


def run_stop(ctx: Context, options: StopOptions) -> None:
    path = "" if options.target is None else f"/{segment(options.target)}"
    _show(ctx, ctx.admin.delete(f"/admin/v1/chaos{path}"), options.as_json)


def run_list(ctx: Context, options: ListOptions) -> None:
    _show(ctx, ctx.admin.get("/admin/v1/chaos"), options.as_json)


def _share(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise CliError(f"invalid share {text!r}", code=Exit.USAGE, hint="A share is like 20% or 0.2.")
    return value


def _show(ctx: Context, answer: Json, as_json: bool) -> None:
    if as_json:
        ctx.out.json(answer)
        return
    from rich.markup import escape

    if answer["data"]:
        made = Table(("on purpose", "backends", "ends in"), right=("ends in",), drop=("backends",))
        for entry in answer["data"]:
            where = f"[dim]{', '.join(entry['backends'])}[/]"
            made.add_row(f"[yellow]{escape(entry['says'])}[/]", where, units.seconds(entry["left_s"]))
        ctx.out.line(made)
    else:
        ctx.out.done("no faults are active")
    if "applied" in answer:
        ctx.out.line(f"[dim]in force at {answer['applied']}[/]")
