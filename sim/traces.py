"""Recorded traffic: when a request came, how long prompt and answer were, and which prefixes it shared.

Reads Azure's LLM inference traces (csv), Mooncake's (jsonl) and this router's own journal (jsonl).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any


class TraceError(Exception):
    """The file is no trace that we know; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace. ``at_s`` counts from the trace's beginning."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()  # chained hashes of the prompt's whole blocks
    answer_blocks: tuple[int, ...] = ()  # of those that the answer completes, if a later prompt may repeat it
    session: str = ""  # requests of one session come from one place
    region: str | None = None  # where its client is; None: anywhere, by session
    tenant: str = "anonymous"
    residency: frozenset[str] | None = None
    model: str = ""  # empty: the one of the world
    stream: bool = True  # its first token was seen


@dataclass(frozen=True, slots=True)
class Trace:
    name: str
    arrivals: tuple[Arrival, ...]
    block_tokens: int = 64  # tokens that one block hash stands for
    skipped: int = 0  # lines that were no usable request
    source: str = ""

    @property
    def duration_s(self) -> float:
        return self.arrivals[-1].at_s if self.arrivals else 0.0

    def faster(self, factor: float) -> Trace:
        """The same requests, ``factor`` times as many per second."""
        return replace(self, arrivals=tuple(replace(a, at_s=a.at_s / factor) for a in self.arrivals))

    def without_first(self, count: int) -> Trace:
        """Without the first ``count`` requests; it begins with the next one."""
        kept = self.arrivals[count:]
        begin_s = kept[0].at_s if count and kept else 0.0
        return replace(self, arrivals=tuple(replace(a, at_s=a.at_s - begin_s) for a in kept))

    def no_longer_than(self, tokens: int) -> Trace:
        """Without the requests that no engine of this context length would take."""
        kept = tuple(a for a in self.arrivals if a.prompt_tokens + a.output_tokens <= tokens)
        return replace(self, arrivals=kept, skipped=self.skipped + len(self.arrivals) - len(kept))


def load_trace(path: str | Path, *, limit: int | None = None) -> Trace:
    """Read a trace, whatever its kind; at most ``limit`` requests. Raises TraceError."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8", errors="strict") as file:
            head = file.readline()
            file.seek(0)
            reader = _reader_for(path, head)
            return reader(path, file, limit)
    except UnicodeDecodeError:
        raise TraceError(f"{path}: not a text file") from None
    except OSError as exc:
        raise TraceError(f"{path}: {exc.strerror}") from None


def _reader_for(path: Path, head: str) -> Callable[[Path, Iterable[str], int | None], Trace]:
    if "ContextTokens" in head and "GeneratedTokens" in head:
        return _read_azure
    try:
        first = json.loads(head)
    except ValueError:
        first = None
    if isinstance(first, dict) and "hash_ids" in first:
        return _read_mooncake
    if isinstance(first, dict) and "request_id" in first and "arrival_s" in first:
        return _read_journal
    raise TraceError(
        f"{path}: neither an Azure trace (csv with ContextTokens, GeneratedTokens), nor a Mooncake trace "
        "(jsonl with hash_ids), nor a journal of this router (jsonl with request_id, arrival_s)"
    )


@dataclass(slots=True)
class _Builder:
    """Collects arrivals in order of time, counted from the first."""

    limit: int | None
    arrivals: list[Arrival] = field(default_factory=list)
    skipped: int = 0

    def add(self, arrival: Arrival) -> bool:
        """False: there are enough."""
        if arrival.prompt_tokens < 1 or arrival.output_tokens < 1:
            self.skipped += 1
        else:
            self.arrivals.append(arrival)
        return self.limit is None or len(self.arrivals) < self.limit

    def trace(self, path: Path, block_tokens: int, source: str) -> Trace:
        if not self.arrivals:
            raise TraceError(f"{path}: no usable request in it")
        ordered = sorted(self.arrivals, key=lambda a: a.at_s)
        start_s = ordered[0].at_s
        arrivals = tuple(replace(a, at_s=a.at_s - start_s) for a in ordered)
        return Trace(path.stem, arrivals, block_tokens, self.skipped, source)


def _read_azure(path: Path, lines: Iterable[str], limit: int | None) -> Trace:
    builder = _Builder(limit)
    for number, row in enumerate(csv.DictReader(lines), start=2):
        try:
            # Seven digits of a second are one more than Python reads; a zone may follow.
            at_s = datetime.fromisoformat(row["TIMESTAMP"].strip()[:26].rstrip("+")).timestamp()
            prompt, output = int(row["ContextTokens"]), int(row["GeneratedTokens"])
        except (KeyError, TypeError, ValueError) as exc:
            raise TraceError(f"{path}:{number}: {exc}") from None
        # The trace does not say who asked: every request is a session of its own.
        if not builder.add(Arrival(at_s, prompt, output, session=str(number))):
            break
    return builder.trace(path, 64, "Azure Public Dataset, LLM inference trace (CC-BY 4.0)")


def _objects(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as exc:
            raise TraceError(f"{path}:{number}: {exc}") from None
        if not isinstance(value, dict):
            raise TraceError(f"{path}:{number}: not an object")
        yield number, value


_MOONCAKE_BLOCK_TOKENS = 512


def _read_mooncake(path: Path, lines: Iterable[str], limit: int | None) -> Trace:
    rows: list[tuple[float, int, int, tuple[int, ...]]] = []
    for number, value in islice(_objects(path, lines), limit):
        try:
            whole = int(value["input_length"]) // _MOONCAKE_BLOCK_TOKENS
            hashes = tuple(int(h) for h in value["hash_ids"])
            rows.append((value["timestamp"] / 1000.0, int(value["input_length"]), int(value["output_length"]), hashes))
            # The last hash may stand for an incomplete block: nobody can find that one again.
            rows[-1] = (*rows[-1][:3], hashes[:whole])
        except (KeyError, TypeError, ValueError) as exc:
            raise TraceError(f"{path}:{number}: {exc!r}") from None
    seen = Counter(h for *_, hashes in rows for h in hashes)
    builder = _Builder(limit)
    for i, (at_s, prompt, output, hashes) in enumerate(rows):
        # A session is told by the first block that is not shared by everybody.
        own = next((h for h in hashes if seen[h] <= max(2, len(rows) // 100)), None)
        session = f"b{own}" if own is not None else f"r{i}"
        builder.add(Arrival(at_s, prompt, output, hashes, session=session))
    return builder.trace(path, _MOONCAKE_BLOCK_TOKENS, "Mooncake FAST'25 trace (Apache-2.0)")


def _read_journal(path: Path, lines: Iterable[str], limit: int | None) -> Trace:
    return journal_trace(path, _objects(path, lines), limit)


def journal_records(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a journal's file. Raises TraceError."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8", errors="strict") as file:
            head = file.readline()
            file.seek(0)
            if _reader_for(path, head) is not _read_journal:
                raise TraceError(f"{path}: no journal of this router")
            return [value for _, value in _objects(path, file)]
    except UnicodeDecodeError:
        raise TraceError(f"{path}: not a text file") from None
    except OSError as exc:
        raise TraceError(f"{path}: {exc.strerror}") from None


def journal_trace(path: Path, records: Iterable[tuple[int, dict[str, Any]]], limit: int | None = None) -> Trace:
    """The requests of numbered records. ``path`` is where they are from, for people. Raises TraceError."""
    builder = _Builder(limit)
    sizes = []
    for number, value in records:
        try:
            residency = value.get("residency")
            blocks = tuple(int(b) for b in value.get("prefix_blocks") or ())
            if blocks and value.get("tokens_per_block"):
                sizes.append(float(value["tokens_per_block"]))
            arrival = Arrival(
                float(value["arrival_s"]),
                int(value.get("prompt_tokens") or 0),
                int(value.get("output_tokens") or 0),
                blocks,
                session=str(blocks[-1]) if blocks else str(number),
                tenant=str(value.get("tenant") or "anonymous"),
                residency=frozenset(residency) if residency is not None else None,
                model=str(value.get("served_model") or value.get("model") or ""),
                stream=value.get("ttft_s") is not None,
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise TraceError(f"{path}:{number}: {exc!r}") from None
        if not builder.add(arrival):
            break
    size = max(1, round(median(sizes))) if sizes else 64
    # A block stands for a fixed number of bytes; in tokens that is about the same for all.
    builder.arrivals = [replace(a, blocks=a.blocks[: a.prompt_tokens // size]) for a in builder.arrivals]
    return _with_answers(builder.trace(path, size, "journal of this router"))


def _with_answers(trace: Trace) -> Trace:
    """A journal tells no blocks of answers. But a later prompt that begins with a whole earlier one goes on with the
    answer to that: its engine had it in the cache."""
    arrivals, size = list(trace.arrivals), trace.block_tokens
    open_: dict[int, int] = {}  # last block of a prompt -> its place
    for number, arrival in enumerate(trace.arrivals):
        for i, block in enumerate(arrival.blocks[:-1]):
            place = open_.get(block)
            if place is not None and len(arrivals[place].blocks) == i + 1:
                earlier = arrivals[open_.pop(block)]
                whole = (earlier.prompt_tokens + earlier.output_tokens) // size
                arrivals[place] = replace(earlier, answer_blocks=arrival.blocks[i + 1 : whole])
        if arrival.blocks:
            open_[arrival.blocks[-1]] = number
    return replace(trace, arrivals=tuple(arrivals))
