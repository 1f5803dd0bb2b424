"""The figures of ``router bench``: as they come, and all of them at the end."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cli import charts, units
from cli.output import Output, Table, dotted, escape

if TYPE_CHECKING:
    from sim.loadgen import Load, Shot

Json = dict[str, Any]

_BAR_WIDTH = 24
#: The figures on the terminal change this often at most.
_LIVE_S = 0.1


class Live:
    """Figures of the requests so far."""

    def __init__(self) -> None:
        self.done = self.failed = 0
        self._ttfts_s: list[float] = []

    def add(self, shot: Shot) -> None:
        self.done += 1
        self.failed += shot.error is not None
        if shot.error is None and shot.ttft_s is not None:
            insort(self._ttfts_s, shot.ttft_s)

    def __str__(self) -> str:
        """In rich's markup."""
        known = self._ttfts_s
        return dotted(
            units.plural(self.done, "request"),
            f"first token p50 {units.seconds(known[len(known) // 2])}" if known else None,
            f"p99 {units.seconds(known[int(0.99 * (len(known) - 1))])}" if known else None,
            f"[red]{self.failed} failed[/]" if self.failed else None,
        )


@contextmanager
def progress(out: Output, load: Load, *, quiet: bool) -> Iterator[Callable[[Shot], None]]:
    """On a terminal, a line with the progress and the figures so far."""
    if quiet or not out.err.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("[dim]{task.description}"), BarColumn(_BAR_WIDTH), TextColumn("{task.fields[told]}"))
    with Progress(*columns, console=out.err, transient=True) as shown:
        total = load.requests if load.requests is not None else load.duration_s
        task = shown.add_task("asking", total=total, told="")
        began_s, next_s, live = time.monotonic(), 0.0, Live()

        def told(shot: Shot) -> None:
            nonlocal next_s
            live.add(shot)
            now_s = time.monotonic()
            if now_s >= next_s:
                next_s = now_s + _LIVE_S
                far = live.done if load.requests is not None else now_s - began_s
                shown.update(task, completed=far, told=str(live))

        yield told


def show(out: Output, document: Json) -> None:
    failed = f"[red]{units.count(document['failed'])} failed[/]" if document["failed"] else "none failed"
    unfinished = units.plural(document["unfinished"], "unfinished request")
    out.line(
        dotted(
            f"[bold]{escape(document['model'])}[/] at {escape(document['url'])}",
            f"{units.plural(document['requests'], 'request')} in {units.seconds(document['duration_s'])}",
            failed,
            f"[yellow]interrupted, {unfinished} not counted[/]" if document["interrupted"] else None,
        )
    )
    out.line(
        dotted(
            f"{units.rate(document['requests_per_s'])} requests/s",
            f"{units.rate(document['output_tokens_per_s'])} tokens/s",
            _cached(document),
            f"trace {escape(document['trace'])}" if document["trace"] else None,
            f"seed {document['seed']}",
        )
    )
    out.line("")
    made = Table(("", "p50", "p90", "p99"), right=("p50", "p90", "p99"))
    for words, name in (("first token", "ttft_s"), ("between tokens", "itl_s"), ("whole answer", "e2e_s")):
        made.add_row(f"[dim]{words}[/]", *(units.seconds(document[name][q]) for q in ("p50", "p90", "p99")))
    out.line(made)
    if document["ttft_histogram"]:
        out.line("")
        out.line(_histogram(document["ttft_histogram"]))
    if document["regions"]:
        out.line("")
        out.line(_regions(document["regions"]))
    for what, n in document["errors"].items():
        out.line(f"[red]{units.count(n)} failed:[/] {escape(what)}")


def _cached(document: Json) -> str | None:
    if document["cached_ratio"] is None:
        return None
    return f"{units.ratio(document['cached_ratio'])} of {units.count(document['prompt_tokens'])} prompt tokens cached"


def _histogram(rows: Sequence[Json]) -> Table:
    made = Table(("first token", " ", "requests"), right=("first token", "requests"), pictures=(" ",))
    most = max(row["requests"] for row in rows)
    for row in rows:
        picture = charts.bar(row["requests"] / most, _BAR_WIDTH)
        made.add_row(f"≤ {units.seconds(row['le_s'])}", f"[cyan]{picture}[/]", units.count(row["requests"]))
    return made


def _regions(regions: Mapping[str, int]) -> Table:
    """The share of each region in the answers."""
    made = Table(("region", " ", "answers"), right=("answers",), pictures=(" ",))
    answers = sum(regions.values())
    for name, n in regions.items():
        made.add_row(escape(name), f"[green]{charts.bar(n / answers, _BAR_WIDTH)}[/]", units.count(n))
    return made
