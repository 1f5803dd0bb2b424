"""router capacity: how many backends there are, how many are needed, and which of them get too much or too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from cli import units
from cli.commands.status import dormant_words, strained
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.output import Table

Json = dict[str, Any]

#: states of an engine that somebody may want to do something about
_WORTH_A_LINE = {"saturated": "red", "starved": "yellow"}


@dataclass(frozen=True, slots=True)
class CapacityOptions:
    as_json: bool


def command(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """How many backends there are of each model in each region, how many are needed and why, and what idle ones cost.

    A number is asked for where `[models.NAME] target_ttft_s` is set.
    """
    context(ctx, admin_url, admin_token).run(run_capacity, CapacityOptions(as_json))


def run_capacity(ctx: Context, options: CapacityOptions) -> None:
    capacity = ctx.admin.get("/admin/v1/capacity")
    if options.as_json:
        ctx.out.json(capacity)
        return
    groups = capacity["data"]
    if not groups:
        ctx.out.note("No backend has told its models yet.")
        return
    ctx.out.line(capacity_table(groups))
    if capacity["idle_usd_hour"]:
        ctx.out.line("")
        ctx.out.line(f"idle: {units.usd(capacity['idle_usd_hour'])} an hour")
    if overloaded := strained(capacity.get("strained", ())):
        ctx.out.line("")
        ctx.out.line(f"overloaded: {overloaded}")
    for model in capacity.get("dormant", ()):
        if model["state"] == "failing":
            ctx.out.line("")
            ctx.out.line(dormant_words(model))
        elif model["problem"]:
            ctx.out.note(model["problem"])
    notable = [(g, e) for g in groups for e in g["engines"] if e["state"] in _WORTH_A_LINE]
    if notable:
        ctx.out.line("")
        ctx.out.line(engines_table(notable))
    if all(group["target_ttft_s"] is None for group in groups):
        ctx.out.note("Set `target_ttft_s` in [models.NAME] of the file to see how many backends are needed.")


def capacity_table(groups: Sequence[Json]) -> Table:
    from rich.markup import escape

    numbers = ("p95", "target", "req/s", "waiting", "idle $/h")
    made = Table(
        ("region", "model", "there", "needed", "short", "because", *numbers),
        right=("there", "needed", "short", *numbers),
        drop=("idle $/h", "waiting", "req/s"),
    )
    for group in groups:
        short = group["short"]
        made.add_row(
            escape(group["region"]),
            f"[bold]{escape(group['model'])}[/]",
            _there(group),
            units.count(group["needed"]),
            f"[red]{short}[/]" if short else units.count(short),
            f"[dim]{group['meaning'] or ''}[/]",
            _p95(group),
            units.seconds(group["target_ttft_s"]),
            units.rate(group["requests_per_s"]),
            units.count(group["waiting"]),
            units.usd(group["idle_usd_hour"]),
        )
    return made


def engines_table(notable: Sequence[tuple[Json, Json]]) -> Table:
    from rich.markup import escape

    made = Table(("backend", "model", "", "why", "req/s", "in flight"), right=("req/s", "in flight"))
    for group, engine in notable:
        made.add_row(
            f"[bold]{escape(engine['backend'])}[/]",
            escape(group["model"]),
            f"[{_WORTH_A_LINE[engine['state']]}]{engine['state']}[/]",
            escape(engine["reason"]),
            units.rate(engine["requests_per_s"]),
            units.count(engine["inflight"]),
        )
    return made


def _there(group: Json) -> str:
    """With how many are known, where some of them may get no requests."""
    there, known = group["there"], group["known"]
    return str(there) if there == known else f"[yellow]{there}[/] of {known}"


def _p95(group: Json) -> str:
    p95_s, kept_s = group["predicted_ttft_s_p95"], group["kept_ttft_s"]
    if p95_s is None:
        return units.UNKNOWN
    late = kept_s is not None and p95_s > kept_s
    return f"[red]{units.seconds(p95_s)}[/]" if late else units.seconds(p95_s)
