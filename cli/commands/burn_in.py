"""router regions burn-in: whether a backend is fit for traffic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import units
from cli.client import segment
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit, unknown
from cli.output import Table, dotted, state

Json = dict[str, Any]

_POLL_S = 0.3


@dataclass(frozen=True, slots=True)
class BurnInOptions:
    name: str
    timeout_s: float
    as_json: bool


def command(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A region, or a backend as REGION/BACKEND.")],
    timeout: Annotated[
        float, typer.Option(min=1, max=3600, help="Seconds to wait for the result of one backend.")
    ] = 300.0,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Measure whether a backend is fit for traffic, beside one that serves. Exit code 1 if it is not.

    Some thirty short requests, eight at once at most. A backend whose file says probation = "burn-in" gets no traffic
    before it has passed.
    """
    context(ctx, admin_url, admin_token).run(run_burn_in, BurnInOptions(name, timeout, as_json))


def run_burn_in(ctx: Context, options: BurnInOptions) -> Exit:
    results = [_burn_in(ctx, name, options) for name in _backends(ctx, options.name)]
    if options.as_json:
        ctx.out.json(results[0] if "/" in options.name else {"data": results})
    else:
        for n, result in enumerate(results):
            if n:
                ctx.out.line("")
            _show(ctx, result)
    return Exit.OK if all(result["state"] == "passed" for result in results) else Exit.FAILED


def _backends(ctx: Context, name: str) -> Sequence[str]:
    if "/" in name:
        return [name]
    regions = ctx.admin.get("/admin/v1/regions")["data"]
    region = next((r for r in regions if r["name"] == name), None)
    if region is None or not region["backends"]:
        raise unknown("region with backends", name, [r["name"] for r in regions if r["backends"]])
    return [b["name"] for b in region["backends"]]


def _burn_in(ctx: Context, name: str, options: BurnInOptions) -> Json:
    path = f"/admin/v1/backends/{segment(name)}/burn-in"
    result: Json = ctx.admin.post(path, {})
    end_s, stage = time.monotonic() + options.timeout_s, ""
    while result["state"] in ("waiting", "running"):
        if time.monotonic() > end_s:
            raise CliError(f"the burn-in of {name} is not over after {options.timeout_s:g} s", hint="It goes on.")
        if result["stage"] != stage and not options.as_json:
            stage = result["stage"]
            ctx.out.note(f"{name}: {stage}")
        time.sleep(_POLL_S)
        result = ctx.admin.get(path)
    return result


def _show(ctx: Context, result: Json) -> None:
    from rich.markup import escape

    report = result["report"] or {"checks": [], "steps": []}
    verdict = state("ok" if result["state"] == "passed" else "down", text=result["state"])
    failed = [check["name"] for check in report["checks"] if not check["passed"]]
    beside = report.get("beside") and f"beside {report['beside']}"
    ctx.out.line(f"[bold]{result['backend']}[/]  {verdict}  {dotted(', '.join(failed) or None, beside)}")
    if report.get("error"):
        ctx.out.line(f"[yellow]the router failed: {escape(report['error'])}[/]")
    ctx.out.line("")
    checks = Table(("check", "", "figure", "bar"))
    for check in report["checks"]:
        mark = state("ok", text="passed") if check["passed"] else state("down", text="failed")
        checks.add_row(check["name"], mark, escape(check["figure"]), f"[dim]{escape(check['bar'])}[/]")
    ctx.out.line(checks)
    if report["steps"]:
        ctx.out.line("")
        ctx.out.line(_steps(report["steps"]))


def _steps(steps: Sequence[Json]) -> Table:
    """First tokens and times between tokens as the load rises, half within; after the stroke those beside."""
    columns = ("at once", "answers", "errors", "first token", "between tokens", "tokens/s")
    made = Table(columns, right=columns)
    for step in steps:
        beside = step["beside"] or {}
        made.add_row(
            str(step["requests"]),
            units.count(step["answers"]),
            units.count(step["errors"]),
            _both(step["ttft_s"], beside.get("ttft_s")),
            _both(step["itl_s"], beside.get("itl_s")),
            units.rate(step["output_tokens_per_s"]),
        )
    return made


def _both(ours_s: float | None, theirs_s: float | None) -> str:
    return f"{units.seconds(ours_s)} [dim]| {units.seconds(theirs_s)}[/]"
