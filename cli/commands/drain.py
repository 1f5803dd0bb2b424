"""router regions drain: no new requests to a region or a backend."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import confirm, units
from cli.commands.regions import Name, act
from cli.commands.traffic import span_s
from cli.confirm import Force
from cli.context import AdminToken, AdminUrl, AsJson, Context, context, operator

Json = dict[str, Any]

_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class DrainOptions:
    name: str
    span: str | None = None
    reason: str | None = None
    wait: bool = False
    force: bool = False
    as_json: bool = False


def command(
    ctx: typer.Context,
    name: Name,
    span: Annotated[
        str | None, typer.Option("--for", metavar="SPAN", help="Resume it after this long: 30m, 2h. Default: never.")
    ] = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Why, for whoever looks at it later.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until nothing is in flight there, on any router.")] = False,
    force: Force = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """No new requests to a region or a backend, on every router. Requests in flight finish normally.

    If a model, a jurisdiction or a plan would lose its last backend, it asks first.
    """
    options = DrainOptions(name, span, reason, wait, force, as_json)
    context(ctx, admin_url, admin_token).run(run_drain, options)


def run_drain(ctx: Context, options: DrainOptions) -> None:
    body: Json = {"by": operator()}
    if options.reason is not None:
        body["reason"] = options.reason
    if options.span is not None:
        body["for_s"] = span_s(options.span)
    found = confirm.place_losses(ctx, options.name)
    confirm.confirm(ctx, f"drain {options.name}", confirm.lost(found), force=options.force)
    answer = act(ctx, options.name, "drain", body)
    if options.wait:
        answer = answer | _until_empty(ctx, options)
    if options.as_json:
        ctx.out.json(answer)
        return
    left = _inflight(answer)
    rest = f"; {units.plural(left, 'request')} still in flight there" if left else ""
    ctx.out.done(f"{options.name} gets no new requests ({answer['applied']}){rest}")
    if found is not None and not found["loses"] and (line := confirm.traffic(found)):
        ctx.out.note(line)


def _until_empty(ctx: Context, options: DrainOptions) -> Json:
    """Wait until nothing is in flight there. Ctrl-C ends the waiting, not the drain."""
    while _inflight(answer := _view(ctx, options.name)):
        if not options.as_json:
            ctx.out.progress(f"{units.plural(_inflight(answer), 'request')} in flight at {options.name}")
        time.sleep(_POLL_S)
    return answer


def _view(ctx: Context, name: str) -> Json:
    region = name.partition("/")[0]
    views = [r for r in ctx.admin.get("/admin/v1/regions")["data"] if r["name"] == region]
    if "/" in name:
        views = [b for r in views for b in r["backends"] if b["name"] == name]
    return views[0] if views else {"inflight": 0}


def _inflight(view: Json) -> int:
    """Requests of this router and of all others."""
    members = view.get("backends") or [view]
    return int(view["inflight"]) + sum(int(b.get("inflight_peers") or 0) for b in members)
