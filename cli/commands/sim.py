"""router sim: simulated engines, for trying things out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from cli.context import Context, context
from cli.errors import CliError, unknown

group = typer.Typer(help="Simulated engines: OpenAI's API, real HTTP, no GPU.", no_args_is_help=True)


class Engine(StrEnum):
    VLLM = "vllm"
    SGLANG = "sglang"
    LLAMACPP = "llamacpp"
    OPENAI = "openai"


EngineKind = Annotated[Engine, typer.Option(help="Engine to imitate: vllm, sglang, llamacpp or openai.")]
Model = Annotated[str, typer.Option(help="The model's name. Engines of one model answer one prompt alike.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
ProfileName = Annotated[str, typer.Option(help="How fast it is: demo, h100-llama-3.1-8b, l4-llama-3.1-8b, …")]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    port: int
    model: str
    host: str
    engine: str
    profile: str
    rtt_ms: float
    seed: int
    max_waiting: int | None


@dataclass(frozen=True, slots=True)
class FleetOptions:
    model: str
    engine: str
    profile: str
    seen_from: str | None
    backends: int
    first_port: int | None
    host: str


@group.command("engine")
def engine(
    ctx: typer.Context,
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 8000,
    model: Model = "llama-3.1-8b",
    host: Host = "127.0.0.1",
    engine: EngineKind = Engine.VLLM,
    profile: ProfileName = "demo",
    rtt_ms: Annotated[float, typer.Option(min=0, help="The round trip to it that is simulated, in ms.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of the chance by which faults happen.")] = 0,
    max_waiting: Annotated[int | None, typer.Option(min=0, help="It refuses requests when this many wait.")] = None,
) -> None:
    """Serve one simulated engine until Ctrl-C. It takes faults at POST /sim/faults."""
    options = EngineOptions(port, model, host, engine.value, profile, rtt_ms, seed, max_waiting)
    context(ctx).run(run_engine, options)


@group.command("fleet")
def fleet(
    ctx: typer.Context,
    model: Model = "llama-3.1-8b",
    engine: EngineKind = Engine.VLLM,
    profile: ProfileName = "demo",
    seen_from: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Distances as seen from this region or city. Default: none.")
    ] = None,
    backends: Annotated[int, typer.Option(min=1, max=26, help="Backends in each region.")] = 2,
    first_port: Annotated[int | None, typer.Option(min=1, help="Ports from here on. Default: free ones.")] = None,
    host: Host = "127.0.0.1",
) -> None:
    """Serve three simulated regions until Ctrl-C. Prints the regions.toml that leads to them."""
    options = FleetOptions(model, engine.value, profile, seen_from, backends, first_port, host)
    context(ctx).run(run_fleet, options)


def run_engine(ctx: Context, options: EngineOptions) -> None:
    _check_profile(options.profile)
    from sim import run

    try:
        run.run_engine(
            options.port,
            options.model,
            host=options.host,
            engine=options.engine,
            profile=options.profile,
            rtt_ms=options.rtt_ms,
            seed=options.seed,
            max_waiting=options.max_waiting,
        )
    except run.PortInUseError as error:
        raise CliError(str(error)) from error


def run_fleet(ctx: Context, options: FleetOptions) -> None:
    _check_profile(options.profile)
    from dataclasses import replace

    from sim import run
    from sim.fleet import EngineStartError
    from sim.geography import DEFAULT_REGIONS

    regions = [replace(region, backends=options.backends) for region in DEFAULT_REGIONS]
    count = sum(region.backends for region in regions)
    first = options.first_port
    try:
        run.run_fleet(
            model=options.model,
            engine=options.engine,
            profile=options.profile,
            seen_from=options.seen_from,
            regions=regions,
            ports=range(first, first + count) if first is not None else None,
            host=options.host,
        )
    except (EngineStartError, ValueError) as error:
        raise CliError(str(error)) from error


def _check_profile(name: str) -> None:
    from sim.profiles import PROFILES

    known: Mapping[str, object] = PROFILES
    if name not in known:
        raise unknown("profile", name, known)
