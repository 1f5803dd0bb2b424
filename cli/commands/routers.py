"""router routers: the routers that share a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import typer

from cli import units
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.output import Table, escape, state

Json = dict[str, Any]

group = typer.Typer(help="The routers that share the store.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class ListOptions:
    as_json: bool


@group.command("list")
def list_(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """Every router: version, region, the hash of its configuration, age, and how late its word is. One that died is
    listed for an hour."""
    context(ctx, admin_url, admin_token).run(run_list, ListOptions(as_json))


def run_list(ctx: Context, options: ListOptions) -> None:
    answer = ctx.admin.get("/admin/v1/routers")
    if options.as_json:
        ctx.out.json(answer)
        return
    columns = ("router", "state", "region", "version", "config", "age", "lag", "in flight", "backends")
    made = Table(columns, right=("age", "lag", "in flight"), drop=("backends", "in flight", "region", "lag"))
    for router in answer["data"]:
        backends = router["backends"]
        made.add_row(
            f"[bold]{escape(router['name'])}[/]{' *' if router['this'] else ''}",
            _state(router),
            escape(router["region"] or units.UNKNOWN),
            router["version"] or units.UNKNOWN,
            router["config_hash"] or units.UNKNOWN,
            units.age(router["uptime_s"]),
            units.seconds(router["lag_s"]),
            units.count(router["inflight"]),
            f"{backends['usable']}/{backends['total']}" if backends else units.UNKNOWN,
        )
    ctx.out.line(made)
    for router in answer["data"]:
        for problem in (router.get("config_refused") or {}).get("problems", ())[:1]:
            ctx.out.warn(f"{router['name']} refused its file: {problem}")
    for line in answer["differences"]:
        ctx.out.warn(line)
    if answer["fleet"]["scope"] != "all routers":
        ctx.out.note(f"{answer['fleet']['scope']}: it shares no store with others.")


def _state(router: Json) -> str:
    if (since_s := router.get("gone_since_s")) is not None:
        return state("down", text=f"gone since {units.clock(since_s)}")
    if (last_s := router.get("last_word_s")) is not None:
        return state("down", text=f"gone, last word {units.clock(last_s)}")
    if not router["answers"]:
        return state("down", text="no answer")
    if not router["ready"]:
        return state("down", text="not ready")
    if router.get("config_refused"):
        return state("degraded", text="ready, would not start again")
    return state("ok", text="ready")
