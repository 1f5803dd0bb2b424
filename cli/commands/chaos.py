"""router chaos: attempts at a backend or a region fail on purpose, for a while."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import units
from cli.client import segment
from cli.commands.traffic import span_s
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit
from cli.output import Table

Json = dict[str, Any]

group = typer.Typer(help="Make attempts fail on purpose, for a while.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class StartOptions:
    target: str
    refuse: bool
    delay_ms: float | None
    cut_after: int | None
    span: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class StopOptions:
    target: str | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class ListOptions:
    as_json: bool


@group.command("start")
def start(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="NAME", help="A region, or a backend as REGION/BACKEND.")],
    refuse: Annotated[bool, typer.Option("--refuse", help="No connection comes about.")] = False,
    delay_ms: Annotated[
        float | None, typer.Option(min=1, max=3_600_000, help="Each attempt begins that much later.")
    ] = None,
    cut_after: Annotated[
        int | None, typer.Option(metavar="TOKENS", min=0, max=1_000_000, help="Answers break after so many tokens.")
    ] = None,
    span: Annotated[str, typer.Option("--for", metavar="SPAN", help="How long: 30s, 5m, at most 1h.")] = "60s",
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Begin a fault. The router must allow it: [router] chaos = true. Probes do not notice, only traffic does."""
    options = StartOptions(target, refuse, delay_ms, cut_after, span, as_json)
    context(ctx, admin_url, admin_token).run(run_start, options)


@group.command("stop")
def stop(
    ctx: typer.Context,
    target: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A region or backend. Default: all.")] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """End a fault before its time."""
    context(ctx, admin_url, admin_token).run(run_stop, StopOptions(target, as_json))


@group.command("list")
def list_(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """The faults that go on."""
    context(ctx, admin_url, admin_token).run(run_list, ListOptions(as_json))


def run_start(ctx: Context, options: StartOptions) -> None:
    asked: list[Json] = []
    if options.refuse:
        asked.append({"fault": "refuse"})
    if options.delay_ms is not None:
        asked.append({"fault": "delay", "delay_s": options.delay_ms / 1000})
    if options.cut_after is not None:
        asked.append({"fault": "cut", "after_tokens": options.cut_after})
    if len(asked) != 1:
        raise CliError("say one fault", code=Exit.USAGE, hint="One of --refuse, --delay-ms MS and --cut-after TOKENS.")
    body = {"target": options.target, "for_s": span_s(options.span), **asked[0]}
    _show(ctx, ctx.admin.post("/admin/v1/chaos", body), options.as_json)


def run_stop(ctx: Context, options: StopOptions) -> None:
    path = "" if options.target is None else f"/{segment(options.target)}"
    _show(ctx, ctx.admin.delete(f"/admin/v1/chaos{path}"), options.as_json)


def run_list(ctx: Context, options: ListOptions) -> None:
    _show(ctx, ctx.admin.get("/admin/v1/chaos"), options.as_json)


def _show(ctx: Context, answer: Json, as_json: bool) -> None:
    if as_json:
        ctx.out.json(answer)
        return
    if not answer["data"]:
        ctx.out.done("no backend meets a fault on purpose")
        return
    made = Table(("backend", "fault", "", "ends in"), right=("ends in",))
    for entry in answer["data"]:
        made.add_row(f"[bold]{entry['backend']}[/]", f"[yellow]{entry['fault']}[/]", _how(entry), _left(entry))
    ctx.out.line(made)


def _how(entry: Json) -> str:
    if entry["fault"] == "delay":
        return f"by {units.seconds(entry['delay_s'])}"
    return f"after {units.plural(entry['after_tokens'], 'token')}" if entry["fault"] == "cut" else ""


def _left(entry: Json) -> str:
    return units.seconds(entry["left_s"])
