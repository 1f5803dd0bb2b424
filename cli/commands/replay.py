"""router replay: sends a trace or the journal through each policy, with the code that runs in production."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import units
from cli.charts import bar
from cli.context import AsJson, Context, context
from cli.errors import CliError, Exit

if TYPE_CHECKING:
    from sim.traces import Trace
    from sim.world_plan import WorldPlan

Json = dict[str, Any]

JOURNAL = "journal"
_BAR_WIDTH = 24


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    trace: str
    policies: tuple[str, ...]
    regions: str | None
    profile: str
    scale: float
    limit: int | None
    seed: int
    as_json: bool


def command(
    ctx: typer.Context,
    trace: Annotated[
        str, typer.Argument(metavar="TRACE", help="A file (Azure csv, Mooncake jsonl, a journal), or 'journal'.")
    ],
    policy: Annotated[str, typer.Option(help="Policies to compare, with commas between them.")] = (
        "ttft,nearest,least_inflight,p2c,round_robin,prefix"
    ),
    regions: Annotated[
        str | None, typer.Option(metavar="FILE", help="Use the fleet in this file. Default: a built-in one.")
    ] = None,
    profile: Annotated[str, typer.Option(help="Engine profile to assume for its backends.")] = "h100-llama-3.1-8b",
    scale: Annotated[float, typer.Option(min=0.01, help="Multiply the request rate by this.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many requests of the trace.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    as_json: AsJson = False,
) -> None:
    """What another policy would have done: the same requests, policy by policy, in virtual time. Needs no router."""
    names = tuple(name.strip() for name in policy.split(",") if name.strip())
    context(ctx).run(run_replay, ReplayOptions(trace, names, regions, profile, scale, limit, seed, as_json))


def run_replay(ctx: Context, options: ReplayOptions) -> None:
    from router.core.policy import POLICIES
    from sim.replay import replay
    from sim.traces import TraceError, load_trace

    for name in options.policies:
        if name not in POLICIES:
            raise CliError(f"There is no policy {name!r}.", hint="`router policies list` names them.", code=Exit.USAGE)
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
            ctx.out.note(f"{name} ({len(done)} of {len(options.policies)})")

    result = replay(trace, options.policies, plan, seed=options.seed, processes=2, on_policy=told)
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
    if options.regions is None:
        return None
    from cli import config_file
    from sim.profiles import PROFILES
    from sim.world_plan import configured_world

    if options.profile not in PROFILES:
        raise CliError(
            f"There is no profile {options.profile!r}.", hint=f"One of: {', '.join(PROFILES)}.", code=Exit.USAGE
        )
    return configured_world(config_file.read(options.regions, secrets=False).backends, options.profile)


def _show(ctx: Context, result: Json) -> None:
    from rich.table import Table

    trace, world, rows = result["trace"], result["world"], result["policies"]
    ctx.out.line(
        f"{trace['name']}: {units.count(trace['requests'])} requests over {units.seconds(trace['duration_s'])} "
        f"on {world['backends']} backends ({', '.join(world['profiles'])}) in {', '.join(world['regions'])}"
    )
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
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
