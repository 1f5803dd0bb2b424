"""One request on an axis of time: what it waited for, part by part, at each backend that it was tried at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cli import units
from cli.output import Table, escape

Json = Mapping[str, Any]

_WIDTH = 20
#: A part that is this short has no line of its own.
_NEGLIGIBLE_S = 0.0005


class Part(NamedTuple):
    """A stretch of a request. ``own`` parts belong to the attempt above them."""

    what: str
    from_s: float
    took_s: float
    own: bool = False
    note: str = ""  # in rich's markup
    colour: str = "green"


def waterfall(record: Json) -> Table:
    columns = ("", "from", "took", " ", "note")
    table = Table(columns, right=("from", "took"), drop=(" ",), pictures=(" ",), wrap=True)
    whole_s = record["duration_s"] or 0.0
    for part in parts(record):
        what = f"  [dim]{part.what}[/]" if part.own else f"[bold]{part.what}[/]"
        bar = _bar(part, whole_s)
        table.add_row(what, units.seconds(part.from_s), units.seconds(part.took_s), bar, part.note)
    return table


def parts(record: Json) -> list[Part]:
    """Auth and limits, the wait for a place, then each attempt: its connection, first byte, first token and rest."""
    attempts = record["attempts"]
    found = []
    admitted_s = record.get("admitted_s")
    if admitted_s is not None:
        found.append(Part("auth and limits", 0.0, admitted_s, colour="blue"))
    if record["wait_s"] > _NEGLIGIBLE_S:
        began_s = attempts[0]["started_s"] if attempts else record["duration_s"]
        wait_s, held_s = record["wait_s"], record.get("held_s") or 0.0
        what = "wait for a place" if held_s < wait_s / 2 else "wait for a wake"
        found.append(Part(what, max(0.0, began_s - wait_s), wait_s, colour="yellow"))
    for attempt in attempts:
        found += _attempt(attempt)
    return found


def _attempt(attempt: Json) -> Iterator[Part]:
    start_s, took_s = attempt["started_s"], attempt["duration_s"] or 0.0
    kind = "" if attempt["kind"] == "first" else f" {attempt['kind']}"
    colour = "green" if attempt["outcome"] == "ok" else "yellow"
    yield Part(f"{escape(attempt['backend'])}{kind}", start_s, took_s, note=_note(attempt), colour=colour)
    at_s = 0.0
    for what, end_s in (
        ("connect", attempt.get("connect_s")),
        ("first byte", attempt.get("first_byte_s")),
        ("first token", attempt["ttft_s"]),
        ("last byte", took_s if attempt["outcome"] == "ok" or attempt["ttft_s"] is not None else None),
    ):
        if end_s is not None and end_s - at_s >= _NEGLIGIBLE_S:
            note = _predicted(attempt) if what == "first token" else ""
            yield Part(what, start_s + at_s, end_s - at_s, own=True, note=note, colour=colour)
            at_s = end_s


def _note(attempt: Json) -> str:
    """How it ended."""
    colour = "green" if attempt["outcome"] == "ok" else "yellow"
    said = [f"[{colour}]{attempt['outcome']}[/]"]
    if attempt["detail"]:
        said.append(f"[dim]{escape(attempt['detail'])}[/]")
    if attempt.get("fault"):
        said.append(f"[magenta]on purpose: {escape(attempt['fault'])}[/]")
    return ", ".join(said)


def _predicted(attempt: Json) -> str:
    """The first token, counted from the start of the attempt, as it was predicted."""
    if attempt["predicted_ttft_s"] is None:
        return ""
    first, predicted = units.seconds(attempt["ttft_s"]), units.seconds(attempt["predicted_ttft_s"])
    return f"[dim]after {first}, predicted {predicted}[/]"


def _bar(part: Part, whole_s: float) -> str:
    """The part as a line on the axis of the whole request."""
    if whole_s <= 0:
        return ""
    start = min(_WIDTH - 1, round(min(1.0, part.from_s / whole_s) * _WIDTH))
    end = min(_WIDTH, max(start + 1, round(min(1.0, (part.from_s + part.took_s) / whole_s) * _WIDTH)))
    return f"{' ' * start}[{part.colour}]{('─' if part.own else '━') * (end - start)}[/]{' ' * (_WIDTH - end)}"
