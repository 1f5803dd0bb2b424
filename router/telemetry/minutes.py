"""Counts of the last day by the minute, for ``router traffic stats --since 24h --by ...``.

Each minute has a row for each region, model, key, tenant, backend and outcome that was in it; beyond ROWS_MAX rows the
rest of a minute is counted together, as ``other``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from router.core.limits import MICRO
from router.telemetry.kinds import RequestKind
from router.telemetry.labels import OTHER
from router.telemetry.stats import Packed, Tally, is_error

KEPT_S = 86_400
ROWS_MAX = 200
_MINUTE_S = 60

#: Requests can be counted by these; the names of a row are in this order.
GROUPS = ("region", "model", "key", "tenant", "backend", "outcome")
#: Counts can be ordered by these, the largest first.
SORTS: Mapping[str, Callable[[dict[str, Any]], float]] = {
    "requests": lambda row: float(row["requests"]),
    "cost": lambda row: float(row["cost_usd"]),
    "errors": lambda row: float(row["errors"]),
    "tokens": lambda row: float(row["prompt_tokens"] + row["output_tokens"]),
    "ttft": lambda row: float(row["ttft_s"]["p50"] or 0.0),
}

_Names = tuple[str, ...]
#: names -> counts, and millionths of a dollar
Rows: TypeAlias = dict[_Names, tuple[Packed, int]]
_OTHERS: _Names = (OTHER,) * len(GROUPS)


@dataclass(slots=True)
class Spent:
    """Counts of some requests, and what they cost in millionths of a dollar."""

    tally: Tally = field(default_factory=Tally)
    microusd: int = 0

    def merge(self, other: Spent) -> None:
        self.tally.merge(other.tally)
        self.microusd += other.microusd


class Minutes:
    """``now_s`` is of a clock that never goes back."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._minute = -1
        self._rows: dict[_Names, Spent] = {}  # of that minute
        self._past: deque[tuple[int, Rows]] = deque(maxlen=KEPT_S // _MINUTE_S)
        self._untold: deque[tuple[int, Rows]] = deque(maxlen=self._past.maxlen)  # minutes that are over since ``news``
        self._told: tuple[int, dict[_Names, int]] = (-1, {})  # a minute, and the requests of its rows then

    def fold(self, kind: RequestKind) -> None:
        """Count finished requests of one kind in the current minute."""
        minute = int(self._now_s() // _MINUTE_S)
        if minute != self._minute:
            self._begin(minute)
        served = kind.served_model or kind.model or ""
        for use in kind.uses:
            spent = self._row((kind.region, served, use.key_id, kind.tenant, kind.backend, kind.cause))
            tally, records = spent.tally, use.records
            tally.requests += len(records)
            tally.errors += len(records) if is_error(kind) else 0
            tally.prompt_tokens += use.prompt_tokens
            tally.output_tokens += use.output_tokens
            tally.noted_ttft_s += [r.ttft_s for r in records if r.ttft_s is not None]
            spent.microusd += round(use.cost_usd * MICRO)

    def _row(self, names: _Names) -> Spent:
        spent = self._rows.get(names)
        if spent is None:
            if len(self._rows) >= ROWS_MAX:
                names = _OTHERS
            spent = self._rows.setdefault(names, Spent())
        return spent

    def _begin(self, minute: int) -> None:
        if self._rows:
            packed = {names: (spent.tally.packed(), spent.microusd) for names, spent in self._rows.items()}
            self._past.append((self._minute, packed))
            self._untold.append(self._past[-1])
        self._minute, self._rows = minute, {}

    def news(self) -> tuple[list[tuple[int, Rows]], tuple[int, Rows]]:
        """Counts that have changed since the last call: minutes that are over, whole, and rows of the one that is not.
        The number of a minute is its beginning in minutes of ``now_s``."""
        over = list(self._untold)
        self._untold.clear()
        minute, told = self._told
        if minute != self._minute:
            told = {}
        changed = {n: (s.tally.packed(), s.microusd) for n, s in self._rows.items() if s.tally.requests != told.get(n)}
        self._told = self._minute, {names: spent.tally.requests for names, spent in self._rows.items()}
        return over, (self._minute, changed)

    def remember(self, minutes: Sequence[tuple[int, Rows]]) -> None:
        """Take over minutes from before this process. Their numbers may be one too high, since its clock may have begun
        within a minute of theirs. Those of a wall clock that was ahead are left out."""
        latest = int(self._now_s() // _MINUTE_S)
        past = [(min(minute, latest), rows) for minute, rows in minutes if minute <= latest + 1]
        self._past = deque(sorted([*past, *self._past], key=lambda each: each[0]), maxlen=self._past.maxlen)

    def usage(self, since_s: float, by: Sequence[str]) -> dict[_Names, Spent]:
        """Counts of the last ``since_s`` seconds, in whole minutes, by these of GROUPS."""
        first = int((self._now_s() - since_s) // _MINUTE_S)
        places = [GROUPS.index(name) for name in by]
        found: dict[_Names, Spent] = {}
        if self._minute >= first:
            for names, spent in self._rows.items():
                found.setdefault(tuple(names[i] for i in places), Spent()).merge(spent)
        for minute, rows in reversed(self._past):
            if minute < first:
                break
            for names, (packed, microusd) in rows.items():
                total = found.setdefault(tuple(names[i] for i in places), Spent())
                total.tally.add(packed)
                total.microusd += microusd
        return found


def merged(several: Sequence[dict[_Names, Spent]]) -> dict[_Names, Spent]:
    found: dict[_Names, Spent] = {}
    for usage in several:
        for names, spent in usage.items():
            found.setdefault(names, Spent()).merge(spent)
    return found


def document(usage: dict[_Names, Spent], since_s: float, by: Sequence[str], sort: str) -> dict[str, Any]:
    """As the admin API shows it, the largest first."""
    total = Spent()
    for spent in usage.values():
        total.merge(spent)
    rows = [
        dict(zip(by, (name or None for name in names), strict=True)) | _row(s, since_s) for names, s in usage.items()
    ]
    rows.sort(key=SORTS[sort], reverse=True)
    return {"since_s": since_s, "by": list(by), "sort": sort, "total": _row(total, since_s), "data": rows}


def _row(spent: Spent, since_s: float) -> dict[str, Any]:
    spent.tally.settle()
    return spent.tally.document(since_s) | {"cost_usd": spent.microusd / 1e6}
