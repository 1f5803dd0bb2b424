"""router plan: how many backends of which model where, by search in the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import units
from cli.commands.replay import assumed_world
from cli.commands.traffic import span_s
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit
from cli.measurements import JOURNAL, Learned, Source, engines_table, error_words, measured, say_what_it_rests_on
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
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """How many backends of which model where, so that first tokens come in time, and what they cost a month.

    The requests of the running router's journal, or of a trace, are played through one fleet after the other, until the
    cheapest is found. Exit code 1 when no fleet keeps the target.
    """
    options = PlanOptions(
        *(trace, growth, target_ttft, percentile, regions, profile, limit, most, runs, seed, learned, as_json)
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
    plan, trace = _assumed(options) if fleet is None else (fleet.plan, fleet.trace)
    result: Json = {"trace": {"name": trace.name, "requests": len(trace.arrivals), "duration_s": trace.duration_s}}
    result |= {"growth": options.growth, "seed": options.seed}
    if fleet is not None:
        checked = what_ifs(fleet, [], seed=options.seed)
        result |= {name: checked[name] for name in ("router", "error", "refused", "engines", "measured", "assumed")}
    else:
        result |= {"router": None, "error": None, "refused": None, "engines": [], "measured": []}
        result["assumed"] = _assumptions(options, plan, trace)

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
    prices = [r["usd_month"] for r in result["data"]]
    result["usd_month"] = None if None in prices else sum(prices)
    if options.as_json:
        ctx.out.json(result)
    else:
        _show(ctx, result, fleet)
    return None if all(r["kept"] for r in result["data"]) else Exit.FAILED


def _assumed(options: PlanOptions) -> tuple[WorldPlan, Trace]:
    """A trace, and regions of which nobody has measured an engine."""
    from sim.profiles import PROFILES
    from sim.traces import TraceError, load_trace
    from sim.world_plan import built_in_world

    if options.profile not in PROFILES:
        names = ", ".join(PROFILES)
        raise CliError(f"There is no profile {options.profile!r}.", hint=f"One of: {names}.", code=Exit.USAGE)
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
    return plan, trace.no_longer_than(PROFILES[options.profile].context_tokens)


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
                units.count(place["backends"]),
                units.usd(place["usd_hour"]),
                units.usd(place["usd_month"]),
                escape(place["like"]),
            )
    ctx.out.line(table)
    ctx.out.line("")
    for found in result["data"]:
        ctx.out.line(_verdict(found))
    if result["usd_month"] is not None:
        today = sum(r["usd_month_today"] for r in result["data"])
        ctx.out.line(f"in all: {units.usd(result['usd_month'])} a month; today's fleet: {units.usd(today)}")
    else:
        ctx.out.line("no price in all: cost_usd_hour of a backend is not set, so each counts the same")
    if fleet is not None:
        _show_engines(ctx, result)
    say_what_it_rests_on(ctx, result)


def _verdict(found: Json) -> str:
    what = f"{escape(found['models'])}: p{found['percentile']:g} of the first token"
    target = units.seconds(found["target_ttft_s"])
    today = f"today's {found['backends_today']}: {units.seconds(found['ttft_s_today'])}"
    if not found["kept"]:
        best = f"the best of {found['runs']} fleets takes {units.seconds(found['ttft_s'])}"
        return f"[red]{what} is over {target} with every fleet that was played[/]; {best} ({today})"
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
