"""router regions sources: where backends come from, and how each source is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import typer

from cli import units
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import Exit
from cli.output import Table, state

Json = dict[str, Any]

_STATES = {"heard": "ok", "away": "down", "doubted": "degraded", "waiting": "probation"}


@dataclass(frozen=True, slots=True)
class SourcesOptions:
    as_json: bool


def command(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """Where backends come from: the file, DNS names, Kubernetes, backends themselves. Exit code 4 if one is away."""
    context(ctx, admin_url, admin_token).run(run_sources, SourcesOptions(as_json))


def run_sources(ctx: Context, options: SourcesOptions) -> Exit:
    answer = ctx.admin.get("/admin/v1/sources")
    if options.as_json:
        ctx.out.json(answer)
    else:
        ctx.out.line(sources_table(answer["data"]))
        for source in answer["data"]:
            for text in (*source["remarks"], *source["left_out"]):
                ctx.out.warn(f"{source['name']}: {text}")
    return Exit.UNHEALTHY if any(source["state"] == "away" for source in answer["data"]) else Exit.OK


def sources_table(sources: list[Json]) -> Table:
    from rich.markup import escape

    made = Table(("source", "kind", "region", "state", "backends", "heard", ""), right=("backends",), drop=("heard",))
    for source in sources:
        made.add_row(
            f"[bold]{source['name']}[/]",
            source["kind"],
            source["region"] or units.UNKNOWN,
            state(_STATES[source["state"]], text=source["state"]),
            f"{source['in_use']}/{source['backends']}",
            units.ago(source["heard_s"]) if source["heard_s"] is not None else units.UNKNOWN,
            escape(source["problem"] or ""),
        )
    return made
