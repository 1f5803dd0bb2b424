"""router bench: puts load on any OpenAI endpoint and measures as its clients do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import charts, units
from cli.completion import first_model
from cli.context import CLIENT_URL, AsJson, Context, context
from cli.errors import CliError, Exit
from cli.output import Table, dotted

if TYPE_CHECKING:
    from sim.loadgen import Load, Shot

Json = dict[str, Any]

_BAR_WIDTH = 24


@dataclass(frozen=True, slots=True)
class BenchOptions:
    url: str | None
    key: str | None
    model: str | None
    load: Json  # fields of sim.loadgen.Load
    as_json: bool


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
        float, typer.Option("--duration", "-d", min=0.1, max=86_400, help="Start requests for this many seconds.")
    ] = 10.0,
    requests: Annotated[int | None, typer.Option("--requests", "-n", min=1, help="At most this many.")] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="About; no two prompts are alike.")] = 200,
    max_tokens: Annotated[int, typer.Option(min=1, max=1_000_000, help="Longest answer, tokens.")] = 64,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Load on any OpenAI endpoint: first token, time between tokens, throughput. Exit code 1 if nothing succeeds."""
    load = {
        "concurrency": concurrency,
        "rate": rate,
        "duration_s": duration,
        "requests": requests,
        "prompt_tokens": prompt_tokens,
        "max_tokens": max_tokens,
        "seed": seed,
    }
    context(ctx).run(run_bench, BenchOptions(url, key, model, load, as_json))


def run_bench(ctx: Context, options: BenchOptions) -> Exit:
    import asyncio

    from sim.loadgen import Load, run

    api = ctx.api(options.url, options.key)
    load = Load(options.model or first_model(api), **options.load)
    with _progress(ctx, load, options.as_json) as told:
        result = asyncio.run(run(api.url, options.key, load, done=told))
    document = {"url": api.url} | result.document()
    if options.as_json:
        ctx.out.json(document)
    elif document["requests"] == document["failed"]:
        raise CliError("no request succeeded", details=[f"{n} × {what}" for what, n in document["errors"].items()])
    else:
        _show(ctx, document)
    return Exit.FAILED if document["requests"] == document["failed"] else Exit.OK


@contextmanager
def _progress(ctx: Context, load: Load, as_json: bool) -> Iterator[Callable[[Shot], None]]:
    """On a terminal, a line with the progress."""
    if as_json or not ctx.out.err.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("[dim]{task.description}"), BarColumn(_BAR_WIDTH), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=ctx.out.err, transient=True) as progress:
        total = load.requests if load.requests is not None else load.duration_s
        task = progress.add_task("asking", total=total, told="")
        began_s, done, failed = time.monotonic(), 0, 0

        def told(shot: Shot) -> None:
            nonlocal done, failed
            done, failed = done + 1, failed + (shot.error is not None)
            far = done if load.requests is not None else time.monotonic() - began_s
            words = dotted(units.plural(done, "request"), f"[red]{failed} failed[/]" if failed else None)
            progress.update(task, completed=far, told=words)

        yield told


def _show(ctx: Context, document: Json) -> None:
    from rich.markup import escape

    failed = f"[red]{units.count(document['failed'])} failed[/]" if document["failed"] else "none failed"
    ctx.out.line(
        dotted(
            f"[bold]{escape(document['model'])}[/] at {escape(document['url'])}",
            f"{units.plural(document['requests'], 'request')} in {units.seconds(document['duration_s'])}",
            failed,
        )
    )
    speed = f"{units.rate(document['requests_per_s'])} requests/s"
    ctx.out.line(dotted(speed, f"{units.rate(document['output_tokens_per_s'])} tokens/s"))
    ctx.out.line("")
    made = Table(("", "p50", "p90", "p99"), right=("p50", "p90", "p99"))
    for words, name in (("first token", "ttft_s"), ("between tokens", "itl_s"), ("whole answer", "e2e_s")):
        made.add_row(f"[dim]{words}[/]", *(units.seconds(document[name][q]) for q in ("p50", "p90", "p99")))
    ctx.out.line(made)
    ctx.out.line("")
    ctx.out.line(_shares(document))


def _shares(document: Json) -> Table:
    """The share of each backend in the answers, and of each error."""
    from rich.markup import escape

    made = Table(("", " ", "requests"), right=("requests",))
    for colour, counted in (("green", document["regions"]), ("red", document["errors"])):
        for name, n in counted.items():
            made.add_row(
                escape(name), f"[{colour}]{charts.bar(n / document['requests'], _BAR_WIDTH)}[/]", units.count(n)
            )
    return made
