"""The lines of a diary, and what they say together.

Each line is JSON with the name of the router that wrote it. Of a minute there may be several: a row of the one with the
most requests holds, since all of them count from the minute's beginning. A line that cannot be read is left out.
"""

from __future__ import annotations

import zlib
from array import array
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec
import orjson

from router.core.decisions import Candidate
from router.telemetry.history import Occurrence, document, occurrence_of
from router.telemetry.journal import Record, WrittenCandidates, as_document, rule_of
from router.telemetry.minutes import GROUPS, Rows

#: Candidates that a decision keeps: the cheapest.
CANDIDATES_MAX = 16
#: Most bytes of a minute that is unpacked.
_ROWS_BYTES = 1 << 22
#: Counts before those of first tokens, see stats.Packed.
_COUNTS = 4

#: The run of a router, and when a minute began by the wall's clock.
MinuteOf: TypeAlias = tuple[str, int]


@dataclass(slots=True)
class Found:
    """The words of a diary about one router. ``unfinished``: minutes that nobody wrote down when they were over."""

    minutes: dict[MinuteOf, Rows] = field(default_factory=dict)
    unfinished: set[MinuteOf] = field(default_factory=set)
    records: list[Record] = field(default_factory=list)  # oldest first
    events: list[Occurrence] = field(default_factory=list)
    unread: int = 0  # lines


def minute_line(router: str, of: MinuteOf, rows: Rows, *, over: bool) -> bytes:
    told = [[names, packed.tolist(), microusd] for names, (packed, microusd) in rows.items()]
    packed_rows = b64encode(zlib.compress(orjson.dumps(told), 1)).decode()
    return _line(router, "minute", {"run": of[0], "at_s": of[1], "over": over, "rows": packed_rows})


def event_line(router: str, occurrence: Occurrence) -> bytes:
    return _line(router, "event", document(occurrence))


def request_line(router: str, record: Record, *, decision: bool) -> bytes:
    """``decision``: with the candidates of the last one, which is as much work again as all the rest."""
    told = as_document(record, blocks=False)
    told["blocks"] = len(record.prefix_blocks)
    if decision and record.candidates:
        cheapest = sorted(record.candidates, key=lambda c: (c.backend != record.backend, _cost_s(c)))[:CANDIDATES_MAX]
        told["candidates"] = [(c.backend, c.cost_s, c.terms, c.struck and c.struck.value) for c in cheapest]
        told["decided_by"] = rule_of(record.candidates)
    return _line(router, "request", told)


def _cost_s(candidate: Candidate) -> float:
    return float("inf") if candidate.cost_s is None else candidate.cost_s


def _line(router: str, what: str, told: dict[str, Any]) -> bytes:
    return orjson.dumps({"router": router, what: told}, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


def read(lines: Iterable[bytes], router: str, *, records: int, since_s: float) -> Found:
    """Read the lines of this router: minutes from ``since_s`` on, events, and the newest ``records`` requests."""
    found = Found()
    requests: deque[bytes] = deque(maxlen=records)  # most of the lines, read when it is known which are the newest
    ours = _line(router, "request", {}).partition(b"{}")[0]
    finished: set[MinuteOf] = set()
    for line in lines:
        if line.startswith(ours):
            requests.append(line)
            continue
        try:
            told = orjson.loads(line)
            if told["router"] != router:
                continue
            if "minute" in told:
                _read_minute(told["minute"], found, finished, since_s)
            elif (event := occurrence_of(told["event"])) is not None:
                found.events.append(event)
        except (KeyError, TypeError, ValueError, zlib.error):
            found.unread += 1
    found.unfinished = found.minutes.keys() - finished
    for line in requests:
        try:
            found.records.append(_record(orjson.loads(line)["request"]))
        except (KeyError, TypeError, ValueError):
            found.unread += 1
    return found


def _read_minute(told: dict[str, Any], found: Found, finished: set[MinuteOf], since_s: float) -> None:
    of = str(told["run"]), int(told["at_s"])
    if of[1] < since_s:
        return
    text = zlib.decompressobj().decompress(b64decode(told["rows"]), _ROWS_BYTES)
    rows = found.minutes.setdefault(of, {})
    for names, counts, microusd in orjson.loads(text):
        packed = array("q", counts)
        if len(names) != len(GROUPS) or len(packed) < _COUNTS or len(packed) % 2:
            raise ValueError("not a row of this version")
        known = rows.get(key := tuple(map(str, names)))
        if known is None or known[0][0] <= packed[0]:
            rows[key] = packed, int(microusd)
    if told["over"]:
        finished.add(of)


def _record(told: dict[str, Any]) -> Record:
    blocks, rule = int(told.pop("blocks", 0)), told.pop("decided_by", None)
    record = msgspec.convert(told, Record)
    if record.candidates:
        record.candidates = WrittenCandidates(record.candidates, None if rule is None else str(rule))
    record.prefix_blocks = range(blocks)  # only their number was written down
    return record
