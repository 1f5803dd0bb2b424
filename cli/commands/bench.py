"""router bench: puts load on any OpenAI endpoint and measures as its clients do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.completion import first_model
from cli.context import CLIENT_URL, AsJson, Context, context
from cli.errors import CliError, Exit, unknown

if TYPE_CHECKING:
    import asyncio
    from signal import Signals

    from cli.client import Remote
    from sim.traces import Trace

Json = dict[str, Any]

#: Without a trace and without --duration.
_DURATION_S = 10.0


@dataclass(frozen=True, slots=True)
class BenchOptions:
    url: str | None
    key: str | None
    model: str | None
    load: Json  # fields of sim.loadgen.Load
    as_json: bool
    trace: str | None = None
    scale: float = 1.0


def command(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(envvar="ROUTER_URL", help=f"The endpoint, without /v1. Default: {CLIENT_URL}.")
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="ROUTER_API_KEY", help="An API key for it.")] = None,
    model: Annotated[str | None, typer.Option(help="Default: the first one it serves.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, max=4096, help="Concurrent clients.")] = 8,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, max=10_000, help="Open loop: start this many requests per second, whatever they take."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(
            "--duration",
            "-d",
            min=0.1,
            max=86_400,
            help="Start requests for this many seconds. Default: 10, or the whole trace.",
        ),
    ] = None,
    requests: Annotated[int | None, typer.Option("--requests", "-n", min=1, help="At most this many.")] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="About; no two prompts are alike.")] = 200,
    max_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="Longest answer, tokens.")] = 64,
    trace: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Ask at the moments of this trace, with its lengths: Azure csv, Mooncake jsonl, or a journal.",
        ),
    ] = None,
    scale: Annotated[float, typer.Option(min=0.001, help="Multiply the request rate of the trace by this.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Random seed. Default: another one each time.")] = None,
    as_json: AsJson = False,
) -> None:
    """Load on any OpenAI endpoint: first token, time between tokens, throughput. Exit code 1 if nothing succeeds.
    Ctrl-C ends it with the figures so far."""
    load = {
        "concurrency": concurrency,
        "rate": rate,
        "duration_s": duration,
        "requests": requests,
        "prompt_tokens": prompt_tokens,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    context(ctx).run(run_bench, BenchOptions(url, key, model, load, as_json, trace, scale))


def run_bench(ctx: Context, options: BenchOptions) -> Exit | int:
    import asyncio

    from cli.bench_view import progress, show
    from sim.loadgen import Load, Result, run

    trace = _trace(options)
    api = ctx.api(options.url, options.key)
    load = Load(options.model or first_model(api), **options.load | _drawn(options.load, trace))
    ended_by: list[Signals] = []

    async def measure() -> Result:
        stop = asyncio.Event()
        with _signals(stop, ended_by), progress(ctx.out, load, quiet=options.as_json) as told:
            return await run(api.url, options.key, load, done=told, stop=stop)

    document = {"url": api.url} | asyncio.run(measure()).document()
    nothing = document["requests"] == document["failed"]
    if options.as_json:
        ctx.out.json(document)
    elif nothing and not ended_by:
        _refuse_unknown_model(api, load.model, document["errors"])
        raise CliError("no request succeeded", details=[f"{n} × {what}" for what, n in document["errors"].items()])
    else:
        show(ctx.out, document)
    if ended_by:
        return 128 + ended_by[0]
    return Exit.FAILED if nothing else Exit.OK


def _refuse_unknown_model(api: Remote, model: str, errors: Iterable[str]) -> None:
    """Only afterwards, as some endpoints do not list all that they serve."""
    if not any(error.startswith("404") for error in errors):
        return
    try:
        known = [str(served["id"]) for served in api.get("/v1/models")["data"]]
    except (CliError, LookupError, TypeError):
        return
    if known and model not in known:
        raise unknown("model", model, known)


def _trace(options: BenchOptions) -> Trace | None:
    if options.trace is None:
        return None
    from sim.traces import TraceError, load_trace

    if options.load.get("rate") is not None:
        raise CliError(
            "--rate and --trace both say when to ask", code=Exit.USAGE, hint="--scale changes a trace's rate."
        )
    try:
        return load_trace(options.trace, limit=options.load.get("requests")).faster(options.scale)
    except TraceError as error:
        raise CliError(str(error), code=Exit.USAGE) from None


def _drawn(load: Json, trace: Trace | None) -> Json:
    """Fill in what nobody asked for: an end, and a seed: a second run finds nothing of the first one in a cache."""
    from secrets import randbelow

    duration_s = load.get("duration_s")
    if duration_s is None:
        duration_s = _DURATION_S if trace is None else trace.duration_s
    seed = load.get("seed")
    return {"trace": trace, "duration_s": duration_s, "seed": randbelow(10**9) if seed is None else seed}


@contextmanager
def _signals(stop: asyncio.Event, ended_by: list[Signals]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run, once; a second one ends the program."""
    import asyncio
    from signal import SIGINT, SIGTERM

    loop = asyncio.get_running_loop()

    def end(number: Signals) -> None:
        ended_by.append(number)
        stop.set()
        loop.remove_signal_handler(number)

    for number in (SIGINT, SIGTERM):
        with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
            loop.add_signal_handler(number, end, number)
    try:
        yield
    finally:
        for number in (SIGINT, SIGTERM):
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(number)
