"""router quota: how far the limits of keys are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import charts, units
from cli.client import segment
from cli.commands.keys import find_key
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.output import Table

Json = dict[str, Any]

group = typer.Typer(help="How far the limits of keys are used.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class ShowOptions:
    key: str | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class ResetOptions:
    key: str
    as_json: bool


@group.command("show")
def show(
    ctx: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="A key's id or name. Default: all.")] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """What each limit allows, how much of it is used, and when it is fully free."""
    context(ctx, admin_url, admin_token).run(run_show, ShowOptions(key, as_json))


@group.command("reset")
def reset(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key's id or name.")],
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Reset the limits of a key: nothing is used."""
    context(ctx, admin_url, admin_token).run(run_reset, ResetOptions(key, as_json))


def run_show(ctx: Context, options: ShowOptions) -> None:
    key_id = find_key(ctx.admin, options.key)["id"] if options.key is not None else None
    answer = ctx.admin.get("/admin/v1/quotas", key=key_id)
    if options.as_json:
        ctx.out.json(answer)
    elif answer["data"]:
        ctx.out.line(quota_table(answer["data"]))
    else:
        ctx.out.note("No keys. Make one with `router keys create NAME`.")


def run_reset(ctx: Context, options: ResetOptions) -> None:
    key = find_key(ctx.admin, options.key)
    answer = ctx.admin.delete(f"/admin/v1/quotas/{segment(key['id'])}")
    if options.as_json:
        ctx.out.json(answer)
    else:
        ctx.out.line(quota_table([answer]))


def quota_table(quotas: list[Json]) -> Table:
    from rich.markup import escape

    columns = ("key", "limit", "used", "", "of", "left", "free in", "counted by")
    made = Table(columns, right=("used", "of", "left"), drop=("counted by", "", "left"))
    for quota in quotas:
        name = f"[bold]{escape(quota['key']['name'])}[/]"
        if not quota["limits"]:
            made.add_row(name, "[dim]none[/]", *[""] * 6)
        for entry in quota["limits"]:
            made.add_row(name, *_cells(entry))
            name = ""
    return made


def _cells(entry: Json) -> list[str]:
    from router.core.limits import KINDS  # takes time to import

    kind = next(
        (kind for kind in KINDS if kind.name == entry["limit"]), None
    )  # None: the router is newer than this program
    amount: Callable[[float | None], str] = units.usd if kind is not None and kind.money else units.count
    reset = units.seconds(entry["reset_s"]) if entry["used"] else ""
    share = entry["used"] / entry["max"] if entry["max"] else 1.0
    colour = "green" if share < 0.7 else "yellow" if share < 1 else "red"
    return [
        str(entry["limit"]) if kind is None else kind.label,
        amount(entry["used"]),
        f"[{colour}]{charts.bar(share, 12)}[/]",
        amount(entry["max"]),
        amount(entry["remaining"]),
        reset,
        f"[dim]{entry['scope']}[/]",
    ]
