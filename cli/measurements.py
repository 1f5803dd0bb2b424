"""What a running router knows and what it has recorded, for ``router replay`` and ``router plan``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import units
from cli.client import segment
from cli.context import Context
from cli.errors import CliError, Exit, StatusError, nobody_runs
from cli.output import Table

if TYPE_CHECKING:
    from sim.measured import Measured

Json = dict[str, Any]

#: as the name of a trace: what the running router has recorded
JOURNAL = "journal"

Learned = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Take this answer of GET /admin/v1/learned, not that of the running router."),
]
MaxError = Annotated[
    float, typer.Option("--max-error", min=0.0, help="Say nothing when playing what really ran is off by more.")
]


@dataclass(frozen=True, slots=True)
class Source:
    """``needed``: it is an error when there is no router to ask."""

    trace: str
    learned: str | None
    limit: int | None
    needed: bool


def measured(ctx: Context, source: Source) -> Measured | None:
    """The fleet as its router knows it, and the requests that really ran. None: the trace is not a journal, or there is
    no router to ask and none is needed."""
    from sim.measured import NotComparableError, measure
    from sim.traces import TraceError

    records = _records(ctx, source)
    if records is None:
        return None
    learned = _learned(ctx, source)
    if learned is None:
        return None
    if source.trace != JOURNAL and source.learned is None and records:
        _say_whose(ctx, source.trace, learned, records[-1])
    try:
        return measure(learned, records, limit=source.limit)
    except TraceError as error:
        raise CliError(str(error), code=Exit.USAGE) from None
    except NotComparableError as error:
        if source.needed:
            raise CliError(f"{error}.", hint="Is it the journal of this router?") from None
        ctx.out.note(f"Engines are assumed: {error}.")
        return None


def _records(ctx: Context, source: Source) -> list[Json] | None:
    if source.trace != JOURNAL:
        from sim.traces import TraceError, journal_records

        try:
            return journal_records(source.trace)
        except TraceError as error:
            if source.needed:
                raise CliError(str(error), code=Exit.USAGE, hint="Only a journal has what really ran.") from None
            return None
    answer = _asked(ctx, source, "/admin/v1/journal", limit=source.limit)
    if answer is None:
        return None
    if not answer["data"]:
        raise CliError("the router has recorded no request yet", hint="`router chat PROMPT` sends one.")
    records: list[Json] = answer["data"]
    return records


def _learned(ctx: Context, source: Source) -> Json | None:
    if source.learned is None:
        return _asked(ctx, source, "/admin/v1/learned")
    try:
        found = json.loads(Path(source.learned).read_text(encoding="utf-8"))
        if "backends" not in found or "router" not in found:
            raise ValueError("it has no backends")
    except (OSError, ValueError, TypeError) as error:
        why = getattr(error, "strerror", None) or error
        message = f"{source.learned} is not an answer of GET /admin/v1/learned: {why}"
        raise CliError(message, code=Exit.USAGE) from None
    learned: Json = found
    return learned


def _say_whose(ctx: Context, trace: str, learned: Json, last: Json) -> None:
    """A journal of another router is played on what this one has measured; whose it is, its last request tells."""
    me = learned["router"]["name"]
    try:
        whose = ctx.admin.get(f"/admin/v1/requests/{segment(str(last.get('request_id')))}").get("router")
    except StatusError as error:
        if error.status != 404:
            raise
        ctx.out.note(f"{me} does not know the last request of {trace}; the fleet is as {me} has measured it.")
        return
    if whose not in (None, me):
        ctx.out.warn(
            f"{trace} is the journal of {whose}, and the fleet is as {me} has measured it; "
            f"ask {whose} with --admin-url or --context, or take its answer with --learned"
        )


def _asked(ctx: Context, source: Source, path: str, **query: object) -> Json | None:
    try:
        answer: Json = ctx.admin.get(path, **query)
    except CliError as error:
        if source.needed or not nobody_runs(error):
            raise
        ctx.out.note("No router answers, so engines are assumed.")
        return None
    return answer


def engines_table(engines: list[Json]) -> Table:
    """How each backend is played."""
    numbers = ("prefill tok/s", "between tokens", "each other", "KV tokens", "answers", "± first", "± decode")
    made = Table(
        ("engine", "from", *numbers[:4], "KV is", *numbers[4:]),
        right=numbers,
        drop=("each other", "KV is", "answers", "between tokens"),
    )
    for e in engines:
        made.add_row(
            f"[bold]{e['backend']}[/]",
            e["from"],
            units.count(e["prefill_tokens_per_s"]),
            units.seconds(e["itl_s"]),
            units.seconds(e["itl_busy_s"]),
            units.count(e["kv_tokens"]),
            e["kv_from"],
            units.count(e["answers"]),
            units.ratio(e["first_token_error"]),
            units.ratio(e["decode_error"]),
        )
    return made


#: An engine of which less is known is played as a guess.
ANSWERS_LEAST, ERROR_MOST = 20, 0.25


def weak(engines: list[Json]) -> list[str]:
    """The engines fitted to few answers, or badly, each with why: ``eu/a (3 answers, first tokens ± 39 %)``."""
    found = []
    for e in engines:
        error = e["first_token_error"]
        if e["answers"] < ANSWERS_LEAST or (error is not None and error > ERROR_MOST):
            off = "" if error is None else f", first tokens ± {units.ratio(error)}"
            found.append(f"{e['backend']} ({units.plural(e['answers'], 'answer')}{off})")
    return found


def say_what_it_rests_on(ctx: Context, result: Json) -> None:
    if guessed := weak(result["engines"]):
        ctx.out.warn(f"hardly measured, so figures that rest on them are guesses: {', '.join(guessed)}")
    ctx.out.line("")
    for word in ("measured", "assumed"):
        for text in result[word]:
            ctx.out.line(f"[dim]{word}:[/] {text}")


def error_words(error: Json) -> str:
    """``first token off by 4 % at p50 and 11 % at p95, whole answer off by 2 % at p50 and 5 % at p95``"""
    parts = []
    for time, word in (("ttft_s", "first token"), ("e2e_s", "whole answer")):
        found = [f"{units.ratio(v)} at {q}" for q in ("p50", "p95") if (v := error.get(f"{time}_{q}")) is not None]
        parts += [f"{word} off by {' and '.join(found)}"] if found else []
    return ", ".join(parts) or "nothing was answered"
