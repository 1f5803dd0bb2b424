"""router replay: sends a trace through each policy, or the journal through another fleet, with the production code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import units
from cli.charts import bar
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit, in_our_voice, unknown
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
    from router.core.what_if import WhatIf
    from sim.measured import Measured
    from sim.traces import Trace
    from sim.world_plan import WorldPlan

Json = dict[str, Any]

POLICIES = "ttft,nearest,least_inflight,p2c,round_robin,prefix"
_BAR_WIDTH = 24

Without = Annotated[
    list[str] | None, typer.Option(metavar="NAME", help="As if this region or backend were gone; may be repeated.")
]
Add = Annotated[
    list[str] | None,
    typer.Option(metavar="NEW=LIKE", help="As if there were a backend NEW, like LIKE; may be repeated."),
]


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    trace: str
    policies: tuple[str, ...]  # none: those that are compared by default
    regions: str | None
    profile: str
    scale: float
    limit: int | None
    seed: int
    as_json: bool
    without: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    learned: str | None = None
    max_error: float = 0.25


def command(
    ctx: typer.Context,
    trace: Annotated[
        str, typer.Argument(metavar="TRACE", help="A file (Azure csv, Mooncake jsonl, a journal), or 'journal'.")
    ],
    policy: Annotated[
        str | None,
        typer.Option(help=f"Policies to compare, with commas between them. Default: {POLICIES}; of a journal its own."),
    ] = None,
    without: Without = None,
    add: Add = None,
    regions: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Use the fleet in this file, of assumed engines. Default: of a journal the running router's, else a "
            "built-in one.",
        ),
    ] = None,
    profile: Annotated[str, typer.Option(help="Engine profile to assume for its backends.")] = "h100-llama-3.1-8b",
    scale: Annotated[float, typer.Option(min=0.01, help="Multiply the request rate by this.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many requests of the trace.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    learned: Learned = None,
    max_error: MaxError = 0.25,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """What another policy, or another fleet, would have done: the same requests again, in virtual time.

    A journal is played on the running router's fleet as it was measured: first what was recorded, then the same played
    again with its error, then each change. A trace needs no router.
    """
    names = tuple(name.strip() for name in (policy or "").split(",") if name.strip())
    options = ReplayOptions(
        *(trace, names, regions, profile, scale, limit, seed, as_json),
        *(tuple(without or ()), tuple(add or ()), learned, max_error),
    )
    context(ctx, admin_url, admin_token).run(run_replay, options)


def run_replay(ctx: Context, options: ReplayOptions) -> Exit | None:
    from router.core.policy import POLICIES as KNOWN

    for name in options.policies:
        if name not in KNOWN:
            raise unknown("policy", name, KNOWN)
    needed = bool(options.without or options.add or options.learned)
    if options.regions is not None and needed:
        raise CliError("--regions is of assumed engines: not with --without, --add and --learned", code=Exit.USAGE)
    source = Source(options.trace, options.learned, options.limit, needed)
    found = measured(ctx, source) if options.regions is None else None
    if found is not None:
        return _what_ifs(ctx, options, found)
    _policies(ctx, options)
    return None


def _what_ifs(ctx: Context, options: ReplayOptions, fleet: Measured) -> Exit | None:
    from sim.measured import what_ifs

    def told(name: str) -> None:
        if ctx.out.is_tty and not options.as_json:
            ctx.out.progress(f"playing {name}")

    changes = _changes(options, fleet)
    result = what_ifs(fleet, changes, options.policies, seed=options.seed, error_max=options.max_error, on_row=told)
    if options.as_json:
        ctx.out.json(result)
        return Exit.FAILED if result["refused"] else None
    _show_what_ifs(ctx, result)
    if result["refused"]:
        hint = "Record more requests, or --max-error to compare all the same."
        raise CliError(f"nothing is compared: {result['refused']}.", hint=hint)
    return None


def _changes(options: ReplayOptions, fleet: Measured) -> list[WhatIf]:
    """Each change alone, and all of them together."""
    from router.core.what_if import WhatIf, added

    try:
        every = WhatIf(options.without, added(options.add), options.scale)
    except ValueError as error:
        raise CliError(str(error), code=Exit.USAGE) from None
    problem = every.problem([m.spec.name for m in fleet.plan.machines])
    if problem is not None:
        raise CliError(in_our_voice(problem[1]), code=Exit.USAGE)
    each = [WhatIf(without=(name,)) for name in every.without]
    each += [WhatIf(add=(pair,)) for pair in every.add]
    each += [WhatIf(scale=every.scale)] if every.scale != 1.0 else []
    return each if len(each) < 2 else [*each, every]


def _show_what_ifs(ctx: Context, result: Json) -> None:
    trace, error = result["trace"], result["error"]
    ctx.out.line(
        f"{escape(result['router']['name'])}: {units.plural(trace['requests'], 'request')} over "
        f"{units.seconds(trace['duration_s'])}, policy {result['rows'][0]['policy']}"
    )
    numbers = ("ttft p50", "p95", "p99", "e2e p50", "prefix hits", "failed")
    table = Table(("", *numbers, "where"), right=numbers, drop=("where", "e2e p50", "prefix hits", "p99"))
    for row in result["rows"]:
        times = [units.seconds(row[name]) for name in ("ttft_s_p50", "ttft_s_p95", "ttft_s_p99", "e2e_s_p50")]
        name = f"[bold]{escape(row['row'])}[/]" if row["measured"] else escape(row["row"])
        table.add_row(name, *times, units.ratio(row["prefix_hit_ratio"]), units.count(row["failed"]), _where(row))
    ctx.out.line(table)
    ctx.out.line("")
    ctx.out.line(f"played again: {error_words(error)} ({error['measure']}; most: {units.ratio(error['max'])})")
    ctx.out.line("")
    ctx.out.line(engines_table(result["engines"]))
    say_what_it_rests_on(ctx, result)


def _where(row: Json) -> str:
    total = sum(row["requests_by_region"].values()) or 1
    most_first = sorted(row["requests_by_region"].items(), key=lambda item: -item[1])
    return ", ".join(f"{escape(region)} {units.ratio(count / total)}" for region, count in most_first)


def _policies(ctx: Context, options: ReplayOptions) -> None:
    from sim.replay import replay
    from sim.traces import TraceError, load_trace

    policies = options.policies or tuple(POLICIES.split(","))
    plan = _world(options)
    try:
        trace: Trace = load_trace(_file(options), limit=options.limit)
    except TraceError as error:
        raise CliError(str(error), code=Exit.USAGE) from None
    if options.scale != 1.0:
        trace = trace.faster(options.scale)
    done: list[str] = []

    def told(name: str) -> None:
        done.append(name)
        if ctx.out.is_tty and not options.as_json:
            ctx.out.note(f"{name} ({len(done)} of {len(policies)})")

    result = replay(trace, policies, plan, seed=options.seed, processes=2, on_policy=told)
    if options.as_json:
        ctx.out.json(result)
    else:
        _show(ctx, result)


def _file(options: ReplayOptions) -> str:
    if options.trace != JOURNAL:
        return options.trace
    from cli import config_file

    path = config_file.read(options.regions or "regions.toml", secrets=False).journal.path
    if path is None:
        raise CliError(
            "The configuration keeps no journal on disk.",
            hint='Set `[journal] path = "journal.jsonl"`, or name a trace file.',
            code=Exit.USAGE,
        )
    return path


def _world(options: ReplayOptions) -> WorldPlan | None:
    return None if options.regions is None else assumed_world(options.regions, options.profile)


def assumed_world(regions: str, profile: str) -> WorldPlan:
    """The fleet of a configuration, with every engine of one profile."""
    from cli import config_file
    from sim.profiles import PROFILES
    from sim.world_plan import configured_world

    if profile not in PROFILES:
        raise unknown("profile", profile, PROFILES)
    return configured_world(config_file.read(regions, secrets=False).backends, profile)


def _show(ctx: Context, result: Json) -> None:
    from rich.table import Table as Grid

    trace, world, rows = result["trace"], result["world"], result["policies"]
    ctx.out.line(
        f"{trace['name']}: {units.plural(trace['requests'], 'request')} over {units.seconds(trace['duration_s'])} "
        f"on {world['backends']} backends ({', '.join(world['profiles'])}) in {', '.join(world['regions'])}"
    )
    table = Grid(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("policy", no_wrap=True, style="bold")
    for name in ("ttft p50", "p90", "p99", "±", "e2e p50", "p99", "prefix hits", "local", "busy", "failed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ttft p99", no_wrap=True)
    worst = max((row["ttft_s_p99"] or 0.0 for row in rows), default=0.0) or 1.0
    for row in sorted(rows, key=lambda r: r["ttft_s_p50"] if r["ttft_s_p50"] is not None else float("inf")):
        low, high = row["intervals"]["ttft_s_p99"]
        spread = units.seconds((high - low) / 2) if low is not None and high is not None else units.UNKNOWN
        table.add_row(
            row["policy"],
            *(units.seconds(row[f"ttft_s_{q}"]) for q in ("p50", "p90", "p99")),
            spread,
            *(units.seconds(row[f"e2e_s_{q}"]) for q in ("p50", "p99")),
            *(f"{100 * row[name]:.0f} %" for name in ("prefix_hit_ratio", "local_ratio", "busy_ratio")),
            units.count(row["failed"]),
            bar((row["ttft_s_p99"] or 0.0) / worst, _BAR_WIDTH),
        )
    ctx.out.line(table)
