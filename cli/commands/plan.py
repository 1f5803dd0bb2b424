"""router plan: how many backends of which model where, by search in the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import units
from cli.commands.replay import assumed_world
from cli.commands.traffic import span_s
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit, unknown
from cli.measurements import (
    JOURNAL,
    Learned,
    MaxError,
    Source,
    engines_table,
    error_words,
    measured,
    say_what_it_rests_on,
)
from cli.output import Table, escape

if TYPE_CHECKING:
    from sim.measured import Measured
    from sim.traces import Trace
    from sim.world_plan import WorldPlan

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlanOptions:
    trace: str
    growth: float
    target_ttft: str
    percentile: float
    regions: str | None
    profile: str
    limit: int
    most: int
    runs: int
    seed: int
    learned: str | None
    as_json: bool
    max_error: float = 0.25
    force: bool = False


def command(
    ctx: typer.Context,
    trace: Annotated[
        str, typer.Argument(metavar="[TRACE]", help="A file (Azure csv, Mooncake jsonl, a journal), or 'journal'.")
    ] = JOURNAL,
    growth: Annotated[float, typer.Option(min=0.01, help="This many times as many requests per second.")] = 1.0,
    target_ttft: Annotated[
        str, typer.Option("--target-ttft", metavar="SPAN", help="The time within which first tokens are to come.")
    ] = "500ms",
    percentile: Annotated[float, typer.Option(min=1, max=100, help="Of 100 requests, this many.")] = 95.0,
    regions: Annotated[
        str | None, typer.Option(metavar="FILE", help="Plan for the regions in this file, of assumed engines.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Engine profile to assume where none was measured.")] = (
        "h100-llama-3.1-8b"
    ),
    limit: Annotated[int, typer.Option(min=1, help="At most this many requests; of a journal the newest.")] = 2000,
    most: Annotated[int, typer.Option(min=1, max=256, help="At most this many backends of a model in a region.")] = 32,
    runs: Annotated[int, typer.Option(min=1, help="Play at most this many fleets for each model.")] = 200,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    learned: Learned = None,
    max_error: MaxError = 0.25,
    force: Annotated[
        bool, typer.Option("--force", help="Plan also where playing what really ran is off by more than --max-error.")
    ] = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """How many backends of which model where, so that first tokens come in time, and what they cost a month.

    The requests of the running router's journal, or of a trace, are played through one fleet after the other, until the
    cheapest is found. Exit code 1 when no fleet keeps the target, or when the engines are known too badly to plan.
    """
    options = PlanOptions(
        *(trace, growth, target_ttft, percentile, regions, profile, limit, most, runs, seed, learned, as_json),
        max_error,
        force,
    )
    context(ctx, admin_url, admin_token).run(run_plan, options)


def run_plan(ctx: Context, options: PlanOptions) -> Exit | None:
    from sim.measured import what_ifs
    from sim.planning import Target, plan_fleet

    target = Target(span_s(options.target_ttft), options.percentile)
    if target.ttft_s <= 0.0:
        raise CliError("--target-ttft must be longer than nothing", code=Exit.USAGE)
    needed = options.trace == JOURNAL or options.learned is not None
    source = Source(options.trace, options.learned, options.limit, needed)
    fleet = measured(ctx, source) if options.regions is None else None
    plan, trace, others = _assumed(options) if fleet is None else (fleet.plan, fleet.trace, _left_out(fleet))
    result: Json = {"trace": {"name": trace.name, "requests": len(trace.arrivals), "duration_s": trace.duration_s}}
    result |= {"growth": options.growth, "seed": options.seed, "others": others}
    if fleet is not None:
        checked = what_ifs(fleet, [], seed=options.seed, error_max=options.max_error)
        result |= {name: checked[name] for name in ("router", "error", "refused", "engines", "measured", "assumed")}
    else:
        result |= {"router": None, "error": None, "refused": None, "engines": [], "measured": []}
        result["assumed"] = _assumptions(options, plan, trace)

    if result["refused"] and not options.force:
        return _refuse(ctx, options, result)

    def told(models: str, counts: tuple[int, ...], time_s: float) -> None:
        if ctx.out.is_tty and not options.as_json:
            ctx.out.progress(f"{models}: played {sum(counts)} backends")

    result["data"] = plan_fleet(
        *(plan, trace, target),
        policy=fleet.policy if fleet is not None else "ttft",
        growth=options.growth,
        entry_s=fleet.entry_s if fleet is not None else 0.0,
        seed=options.seed,
        most=options.most,
        runs_max=options.runs,
        on_run=told,
    )
    result["usd_month"] = _total([*(r["usd_month"] for r in result["data"]), others["usd_month"]])
    result["usd_month_today"] = _total([*(r["usd_month_today"] for r in result["data"]), others["usd_month"]])
    if options.as_json:
        ctx.out.json(result)
    else:
        _show(ctx, result, fleet)
    return None if all(r["kept"] for r in result["data"]) else Exit.FAILED


def _total(prices: list[float | None]) -> float | None:
    known = [usd for usd in prices if usd is not None]
    return sum(known) if len(known) == len(prices) else None


def _refuse(ctx: Context, options: PlanOptions, result: Json) -> Exit:
    """The engines are known too badly: no fleet and no price."""
    if options.as_json:
        ctx.out.json(result | {"data": [], "usd_month": None, "usd_month_today": None})
        return Exit.FAILED
    _show_engines(ctx, result)
    say_what_it_rests_on(ctx, result)
    hint = "Record more requests; --max-error allows more, --force plans all the same."
    raise CliError(f"nothing is planned: {result['refused']}.", hint=hint)


def _left_out(fleet: Measured) -> Json:
    """The backends that are in no group: they stay as they are."""
    return _others(list(fleet.left_out), fleet.left_out_usd_hour)


def _others(names: list[str], usd_hour: float | None) -> Json:
    from sim.planning import HOURS_A_MONTH

    return {"backends": names, "usd_month": None if usd_hour is None else usd_hour * HOURS_A_MONTH}


def _assumed(options: PlanOptions) -> tuple[WorldPlan, Trace, Json]:
    """A trace, and regions of which nobody has measured an engine; with the backends of other models."""
    from sim.profiles import PROFILES
    from sim.traces import TraceError, load_trace
    from sim.world_plan import built_in_world

    if options.profile not in PROFILES:
        raise unknown("profile", options.profile, PROFILES)
    if options.trace == JOURNAL:
        hint = "Name a trace file, or leave out --regions to plan for the running router."
        raise CliError("the journal has measured engines: not with --regions", code=Exit.USAGE, hint=hint)
    try:
        trace = load_trace(options.trace, limit=options.limit)
    except TraceError as error:
        raise CliError(str(error), code=Exit.USAGE) from None
    plan = (
        built_in_world(options.profile) if options.regions is None else assumed_world(options.regions, options.profile)
    )
    others = _others([], 0.0)
    if options.regions is not None:
        from cli import config_file

        planned = {m.spec.name for m in plan.machines}
        rest = [b for b in config_file.read(options.regions, secrets=False).backends if b.name not in planned]
        prices = [b.cost_usd_hour for b in rest]
        others = _others([b.name for b in rest], sum(prices) if all(prices) else None)
    return plan, trace.no_longer_than(PROFILES[options.profile].context_tokens), others


def _assumptions(options: PlanOptions, plan: WorldPlan, trace: Trace) -> list[str]:
    from sim.profiles import PROFILES

    profile = PROFILES[options.profile]
    where = "the built-in regions" if options.regions is None else options.regions
    return [
        f"every engine is {profile.name} ({profile.summary}; {profile.source})",
        f"{where}: a router in each of {', '.join(plan.regions)}, and clients spread over them",
        "prices: " + ("examples, no quotations" if options.regions is None else "cost_usd_hour of the backends"),
        "no backend fails",
    ]


def _show(ctx: Context, result: Json, fleet: Measured | None) -> None:
    trace = result["trace"]
    grown = f", {result['growth']:g} times as many per second" if result["growth"] != 1.0 else ""
    ctx.out.line(
        f"{escape(trace['name'])}: {units.plural(trace['requests'], 'request')} over "
        f"{units.seconds(trace['duration_s'])}{grown}"
    )
    numbers = ("today", "needed", "$ an hour each", "$ a month")
    table = Table(("region", "model", *numbers, "like"), right=numbers, drop=("like", "$ an hour each"))
    for found in result["data"]:
        for place in found["places"]:
            table.add_row(
                escape(place["region"]),
                f"[bold]{escape(', '.join(place['models']))}[/]",
                units.count(place["backends_today"]),
                units.count(place["backends"]) if found["kept"] else f"[red]none[/], best {place['backends']}",
                units.usd(place["usd_hour"]),
                units.usd(place["usd_month"] if found["kept"] else None),
                escape(place["like"]),
            )
    ctx.out.line(table)
    ctx.out.line("")
    for found in result["data"]:
        ctx.out.line(_verdict(found))
    others, today = result["others"], result["usd_month_today"]
    if names := others["backends"]:
        which = escape(", ".join(names)) if len(names) < 6 else units.plural(len(names), "backend")
        ctx.out.line(f"not in the plan, and left as they are: {which} ({units.usd(others['usd_month'])} a month)")
    if not all(r["kept"] for r in result["data"]):
        ctx.out.line(f"[red]no price in all: no fleet keeps the target[/]; today's fleet: {units.usd(today)} a month")
    elif result["usd_month"] is not None:
        ctx.out.line(f"in all: {units.usd(result['usd_month'])} a month; today's fleet: {units.usd(today)}")
    else:
        ctx.out.line("no price in all: cost_usd_hour of a backend is not set, so each counts the same")
    for place in (place for found in result["data"] for place in found["places"] if place["unlike"]):
        which = escape(", ".join(place["unlike"]))
        ctx.out.note(
            f"{escape(place['like'])} stands for all of {escape(place['region'])}; not as quick or as dear: {which}"
        )
    if fleet is not None:
        _show_engines(ctx, result)
    say_what_it_rests_on(ctx, result)


def _verdict(found: Json) -> str:
    what = f"{escape(found['models'])}: p{found['percentile']:g} of the first token"
    target = units.seconds(found["target_ttft_s"])
    today = f"today's {found['backends_today']}: {units.seconds(found['ttft_s_today'])}"
    if not found["requests"]:
        return f"{escape(found['models'])}: nobody asked for it, so its {found['backends']} stay as they are"
    if not found["kept"]:
        best = f"the best of {found['runs']} fleets takes {units.seconds(found['ttft_s'])}"
        if found["ttft_s"] is None:
            best = f"in none of {found['runs']} fleets did as many have one at all"
        return f"[red]{what} is over {target} with every fleet that was played[/]; {best} ({today}): {found['limit']}"
    sure = "every cheaper fleet was played and is late" if found["proved"] else "cheaper fleets were not all played"
    return (
        f"{what} is {units.seconds(found['ttft_s'])}, within {target} ({today}); {found['runs']} fleets played, {sure}"
    )


def _show_engines(ctx: Context, result: Json) -> None:
    ctx.out.line("")
    ctx.out.line(engines_table(result["engines"]))
    ctx.out.line("")
    ctx.out.line(f"what really ran, played again: {error_words(result['error'])} ({result['error']['measure']})")
    if result["refused"]:
        ctx.out.warn(f"do not rely on this: {result['refused']}")
