"""router quota top and export: who spends, and what was spent in a month."""

from __future__ import annotations

import csv
import io
import re
import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import charts, units
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit
from cli.output import Table, escape

Json = dict[str, Any]

_PATH = "/admin/v1/spending"
_COLUMNS = ("requests", "prompt_tokens", "output_tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class TopOptions:
    by: str | None
    day: bool
    of: str | None
    limit: int
    as_json: bool


@dataclass(frozen=True, slots=True)
class ExportOptions:
    month: str
    by: str
    as_json: bool


def top(
    ctx: typer.Context,
    by: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Some of tenant,key,plan,model. Default: tenants, then keys.")
    ] = None,
    day: Annotated[bool, typer.Option("--day", help="Today (UTC) instead of this month.")] = False,
    of: Annotated[
        str | None, typer.Option(metavar="DATE", help="Another month, 2026-11, or with --day another day, 2026-11-30.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=5000, help="At most this many of each.")] = 20,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Who spends: tenants and keys by what their answers cost this month, over all routers."""
    context(ctx, admin_url, admin_token).run(run_top, TopOptions(by, day, of, limit, as_json))


def export(
    ctx: typer.Context,
    month: Annotated[
        str | None, typer.Option(metavar="MONTH", help="The month (UTC), as in 2026-11. Default: this one.")
    ] = None,
    by: Annotated[str, typer.Option(metavar="NAMES", help="Some of tenant,key,plan,model.")] = "tenant,model",
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, which is the default.")] = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """The spending of a month, by tenant and model, as CSV."""
    del as_csv
    asked = month or time.strftime("%Y-%m", time.gmtime())
    context(ctx, admin_url, admin_token).run(run_export, ExportOptions(asked, by, as_json))


def run_top(ctx: Context, options: TopOptions) -> None:
    period = "day" if options.day else "month"
    wanted = [options.by] if options.by else ["tenant", "key"]
    answers = [ctx.admin.get(_PATH, period=period, of=options.of, by=by) for by in wanted]
    for answer in answers:
        answer["data"] = answer["data"][: options.limit]
    if options.as_json:
        named = {by: answer["data"] for by, answer in zip(wanted, answers, strict=True)}
        first = answers[0]
        whole = {"period": first["period"], "of": first["of"], "total": first["total"]}
        ctx.out.json(answers[0] if options.by else whole | named)
        return
    first = answers[0]
    ctx.out.note(f"the {first['period']} {first['of']} (UTC), {units.usd(first['total']['cost_usd'])} in all")
    if not first["data"]:
        ctx.out.note("Nothing was answered.")
        return
    for answer in answers:
        ctx.out.line(_table(answer))
    if not first["total"]["cost_usd"]:
        ctx.out.note("Nothing has a price: see price_usd_per_mtok in docs/config.md.")


def _table(answer: Json) -> Table:
    by = answer["by"]
    columns = (*by, "requests", "tokens", "cost", "share", "")
    made = Table(columns, right=("requests", "tokens", "cost", "share"), drop=("", "tokens"))
    for row in answer["data"]:
        names = [f"[bold]{escape(_name(row, name))}[/]" for name in by]
        tokens = f"{units.count(row['prompt_tokens'])} → {units.count(row['output_tokens'])}"
        share = units.ratio(row["share"])
        cells = [units.count(row["requests"]), tokens, units.usd(row["cost_usd"]), share, charts.bar(row["share"], 16)]
        made.add_row(*names, *cells)
    return made


def _name(row: Json, by: str) -> str:
    """A key is shown by its name, and by its id, which is its own."""
    text = str(row[by] or units.UNKNOWN)
    return f"{row['key_name']} ({text})" if by == "key" and row.get("key_name") else text


def run_export(ctx: Context, options: ExportOptions) -> None:
    if not _is_month(options.month):
        now = time.strftime("%Y-%m", time.gmtime())
        raise CliError(f"--month must be a month such as {now}, not {options.month!r}", code=Exit.USAGE)
    answer = ctx.admin.get(_PATH, period="month", of=options.month, by=options.by)
    if options.as_json:
        ctx.out.json(answer)
        return
    text = io.StringIO()
    names = [*answer["by"], *(["key_name"] if "key" in answer["by"] else [])]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["month", *names, *_COLUMNS])
    for row in answer["data"]:
        sums = [f"{row[name]:.6f}" if name == "cost_usd" else row[name] for name in _COLUMNS]
        writer.writerow([answer["of"], *(_cell(row[name]) for name in names), *sums])
    ctx.out.plain(text.getvalue())


def _is_month(text: str) -> bool:
    found = re.fullmatch(r"([0-9]{4})-([0-9]{2})", text)
    return found is not None and int(found[1]) >= 1970 and 1 <= int(found[2]) <= 12


def _cell(text: str | None) -> str:
    """A name that a spreadsheet would take for a formula is told to be text."""
    text = text or ""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
