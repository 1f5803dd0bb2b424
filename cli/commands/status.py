"""router status: the router and its fleet at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from cli import units
from cli.context import AdminToken, AdminUrl, AsJson, Context, Router, context
from cli.errors import Exit
from cli.output import dotted, escape, facts, state
from cli.region_tables import regions_table

if TYPE_CHECKING:
    from rich.table import Table

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StatusOptions:
    as_json: bool
    router: str | None = None


def command(
    ctx: typer.Context,
    router: Router = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """The router and its fleet at a glance. Exit code 4 when it is not ready for traffic."""
    context(ctx, admin_url, admin_token).run(run_status, StatusOptions(as_json, router))


def run_status(ctx: Context, options: StatusOptions) -> Exit:
    status = ctx.admin.get("/admin/v1/status", router=options.router)
    if options.as_json:
        ctx.out.json(status)
    else:
        regions = ctx.admin.get("/admin/v1/regions", router=options.router)["data"]
        ctx.out.line(title(status))
        ctx.out.line("")
        ctx.out.line(about(status))
        if regions:
            ctx.out.line("")
            ctx.out.line(regions_table(regions))
    return Exit.OK if status["router"]["ready"] else Exit.UNHEALTHY


def title(status: Json) -> str:
    """One line: the router's name, and whether it is ready."""
    router = status["router"]
    ready = state("ok", text="ready") if router["ready"] else state("down", text=_not_ready(router))
    if router["ready"] and router.get("config_refused"):
        ready = state("degraded", text="ready, would not start again")
    parts = [
        f"[bold]{router['name']}[/]",
        router["region"] and f"in {router['region']}",
        f"policy {router['policy']}",
        f"version {router['version']}",
        f"up {units.seconds(router['uptime_s'])}",
    ]
    return f"{ready}  {dotted(*parts)}"


def about(status: Json) -> Table:
    """Facts in two columns: name and value."""
    router, store, traffic = status["router"], status["store"], status["traffic"]
    rtt = f"round trip {units.seconds(store['rtt_s'])}" if store["rtt_s"] is not None else None
    return facts(
        {
            "routers": routers(status),
            "traffic": dotted(*traffic_facts(traffic), "[dim]the last minute[/]"),
            "first token": dotted(*ttft_facts(traffic)),
            "fleet": dotted(
                _of(status["regions"], "region"), _of(status["backends"], "backend"), _asleep(status["backends"])
            ),
            "store": dotted(f"{store['kind']} {state(store['state'])}", rtt, store.get("notice")),
            "config": dotted(escape(router["config_source"]), f"generation {router['config_generation']}"),
            "overloaded": strained(status.get("strained", ())),
            "asleep": dormant(status.get("dormant", ())),
            "": "\n".join(filter(None, (refused_config(router), pending_config(router)))),
        }
    )


def routers(status: Json) -> str | None:
    """Whom the figures are about, and how configurations differ."""
    fleet = status.get("fleet")
    if not fleet:
        return None
    several = fleet["scope"] == "all routers"
    who = dotted(*map(escape, fleet["routers"])) if several and len(fleet["routers"]) > 1 else escape(fleet["scope"])
    if several and len(fleet["routers"]) == 1:
        who = f"{escape(fleet['routers'][0])}, the only one of its store"
    silent = [f"[red]no answer from {escape(name)}[/]" for name in fleet["silent"]]
    differ = [f"[yellow]{escape(line)}[/]" for line in status.get("differences", ())[:5]]
    troubled = [f"[red]{escape(line)}[/]" for line in status.get("troubles", ())]
    return "\n".join([dotted(who, *silent, *differ), *troubled])


def _not_ready(router: Json) -> str:
    return f"not ready: {escape(router['not_ready'])}" if router.get("not_ready") else "not ready"


def refused_config(router: Json) -> str | None:
    """The file that the router does not take: when, and the first of its problems."""
    refused = router.get("config_refused")
    if not refused:
        return None
    first, *others = refused["problems"] or ["no reason given"]
    more = f", and {units.plural(len(others), 'more problem')}" if others else ""
    hint = "`router config show` lists them" if others else "the generation above stays in force"
    return f"[red]refused at {units.clock(refused['at_s'])}[/]: {escape(first)}{more}\n[dim]{hint}[/]"


def pending_config(router: Json) -> str | None:
    """Settings of the file that the router follows only after a restart."""
    waiting = router.get("config_pending")
    if not waiting:
        return None
    more = f" [dim]· {units.plural(len(waiting) - 1, 'more')}: `router config show`[/]" if len(waiting) > 1 else ""
    return f"[yellow]pending until restart[/]: {escape(waiting[0])}{more}"


def strained(models: Sequence[Json]) -> str | None:
    """The overloaded models for which smaller variants answer."""
    lines = [
        dotted(
            f"[yellow]{escape(model['model'])}[/] later than {units.seconds(model['target_ttft_s'])} everywhere",
            f"since {units.clock(model['since_s'])}",
            f"{units.plural(model['requests'], 'request')} answered by {escape(', '.join(model['variants']))}",
        )
        for model in models
    ]
    return "\n".join(lines) or None


def dormant(models: Sequence[Json]) -> str | None:
    """The models of which nothing runs: those that sleep in a word, those that cannot be woken with the reason."""
    lines = [words for model in models if model["state"] != "running" and (words := dormant_words(model))]
    return "\n".join(lines) or None


def dormant_words(model: Json) -> str:
    """How a model is of which nothing need run, with what waits for it."""
    name = f"[bold]{escape(model['model'])}[/]"
    held = f"{units.plural(model['held'], 'request')} held" if model["held"] else None
    if model["state"] == "failing":
        again = f"next call in {units.seconds(model['again_s'])}" if model["again_s"] else None
        since = f"for {units.age(model['failing_s'])}"
        calls = f"{units.plural(model['tries'], 'call')} failed"
        return dotted(f"[red]{escape(model['problem'])}[/]", since, calls, again, held)
    if model["state"] == "waking":
        where = f" in {escape(model['region'])}" if model["region"] else ""
        took = f"for {units.age(model['waking_s'] or 0.0)}, usually {units.seconds(model['takes_s'])}"
        return dotted(f"{name} is being woken{where} {took}", held)
    return dotted(f"{name} sleeps until a request comes", held)


def traffic_facts(traffic: Json) -> list[str]:
    return [
        f"{units.rate(traffic['requests_per_s'])} requests/s",
        f"{units.count(traffic['inflight'])} in flight",
        f"{units.count(traffic['queued'])} waiting",
        f"{units.rate(traffic['output_tokens_per_s'])} tokens/s",
        "" if traffic["error_ratio"] is None else f"{units.ratio(traffic['error_ratio'])} failed",
    ]


def ttft_facts(traffic: Json) -> list[str]:
    if traffic["ttft_s_p50"] is None:
        return ["[dim]no stream has begun lately[/]"]
    return [f"p50 {units.seconds(traffic['ttft_s_p50'])}", f"p99 {units.seconds(traffic['ttft_s_p99'])}"]


def _of(counts: Json, word: str) -> str:
    usable, total = counts["usable"], counts["total"]
    well = total and usable + counts.get("asleep", 0) >= total
    colour = "green" if well else "yellow" if usable else "red"
    return f"[{colour}]{usable}[/] of {units.plural(total, word)} usable"


def _asleep(counts: Json) -> str | None:
    asleep = counts.get("asleep", 0)
    return f"[cyan]{asleep} asleep[/]" if asleep else None
