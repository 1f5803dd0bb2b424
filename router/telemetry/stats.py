"""Counts of the last seconds and minutes, for ``router status`` and ``router traffic stats``.

Finished requests are counted in one-second slots, so an answer costs the seconds asked for, not the requests.
Percentiles come from logarithmic buckets 5 % wide: they are off by 2.5 % at most.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

from router.core.outcomes import CONSEQUENCES, OnHealth, Outcome
from router.errors import CODES, Blame
from router.telemetry.journal import Record
from router.telemetry.kinds import RequestKind
from router.telemetry.labels import OTHER, Labels

WINDOW_S_MAX = 900
_BUCKETS_PER_E = 20
_TENANTS_MAX = 1000
_GROUPS = ("region", "model", "tenant", "cause")
_FAULTY = frozenset(o.value for o in Outcome if CONSEQUENCES[o].on_health in (OnHealth.HARD, OnHealth.SOFT))

_Key = tuple[str, str, str, str]
#: the counts of a Tally in little memory
Packed: TypeAlias = "array[int]"


@dataclass(slots=True)
class Tally:
    """Counts of some requests."""

    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttft: dict[int, int] = field(default_factory=dict)
    noted_ttft_s: list[float] = field(default_factory=list)  # not in ``ttft`` yet

    def settle(self) -> None:
        """Count what was noted."""
        ttft = self.ttft
        for ttft_s in self.noted_ttft_s:
            bucket = _bucket(ttft_s)
            ttft[bucket] = ttft.get(bucket, 0) + 1
        self.noted_ttft_s.clear()

    def merge(self, other: Tally) -> None:
        other.settle()
        self.requests += other.requests
        self.errors += other.errors
        self.prompt_tokens += other.prompt_tokens
        self.output_tokens += other.output_tokens
        for bucket, count in other.ttft.items():
            self.ttft[bucket] = self.ttft.get(bucket, 0) + count

    def packed(self) -> Packed:
        """The same in a quarter of the memory: the four counts, then buckets and their counts in turns."""
        self.settle()
        counts = [self.requests, self.errors, self.prompt_tokens, self.output_tokens]
        return array("q", [*counts, *chain.from_iterable(self.ttft.items())])

    def add(self, packed: Packed) -> None:
        self.requests += packed[0]
        self.errors += packed[1]
        self.prompt_tokens += packed[2]
        self.output_tokens += packed[3]
        ttft = self.ttft
        for bucket, count in zip(packed[4::2], packed[5::2], strict=True):
            ttft[bucket] = ttft.get(bucket, 0) + count

    def document(self, window_s: float) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "requests_per_s": self.requests / window_s,
            "errors": self.errors,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "output_tokens_per_s": self.output_tokens / window_s,
            "ttft_s": {f"p{q}": percentile(self.ttft, q / 100) for q in (50, 90, 99)},
        }


@dataclass(slots=True)
class Window:
    """Counts of some seconds. The windows of several processes can be merged."""

    window_s: float  # asked for
    lived_s: float  # of that, how long the process has been there
    tallies: dict[_Key, Tally] = field(default_factory=dict)

    def merge(self, other: Window) -> None:
        self.lived_s = max(self.lived_s, other.lived_s)
        for key, tally in other.tallies.items():
            self.tallies.setdefault(key, Tally()).merge(tally)

    def document(self) -> dict[str, Any]:
        """Totals, and the same by region, model, tenant and cause."""
        total = Tally()
        groups: list[dict[str, Tally]] = [{} for _ in _GROUPS]
        for key, tally in self.tallies.items():
            total.merge(tally)
            for group, name in zip(groups, key, strict=True):
                group.setdefault(name, Tally()).merge(tally)
        document = {"window_s": self.window_s} | total.document(self.lived_s)
        for name, group in zip(_GROUPS, groups, strict=True):
            document[f"by_{name}"] = [
                {"name": value or None} | tally.document(self.lived_s)
                for value, tally in sorted(group.items(), key=lambda item: -item[1].requests)
            ]
        return document


#: How far figures of "now" look back, unless somebody asks for another window: the same in every view.
WINDOW_S = 60.0
#: Errors of requests that found no place.
_SHED = frozenset({"admission_full", "wait_expired"})


class Stats:
    def __init__(self, labels: Labels, now_s: Callable[[], float]) -> None:
        self._labels = labels
        self._now_s = now_s
        self._started_s = now_s()
        self._slots: deque[tuple[int, dict[_Key, Packed]]] = deque(maxlen=WINDOW_S_MAX + 1)
        self._second = -1
        self._slot: dict[_Key, Tally] = {}  # of that second
        self._tenants: set[str] = set()
        #: requests since the start that were refused for want of a place, before any backend was asked
        self.shed = 0

    def fold(self, kind: RequestKind) -> None:
        """Count finished requests of one kind in the slot of the current second."""
        second = int(self._now_s())
        if second != self._second:
            self._begin(second)
        model, tenant = kind.served_model or kind.model, kind.tenant
        if model not in self._labels.known:
            model = self._labels.model(model)
        if tenant not in self._tenants:
            tenant = self._new_tenant(tenant)
        key = (kind.region, model, tenant, kind.cause)
        tally = self._slot.get(key)
        if tally is None:
            tally = self._slot[key] = Tally()
        requests = len(kind.records)
        tally.requests += requests
        tally.errors += requests if is_error(kind) else 0
        if kind.error in _SHED and not kind.attempts:
            self.shed += requests
        tally.prompt_tokens += kind.prompt_tokens
        tally.output_tokens += kind.output_tokens
        tally.noted_ttft_s += kind.ttfts_s

    def _begin(self, second: int) -> None:
        if self._slot:
            self._slots.append((self._second, {key: tally.packed() for key, tally in self._slot.items()}))
        self._second, self._slot = second, {}

    def window(self, window_s: float) -> dict[str, Any]:
        """Totals of the last ``window_s`` seconds, and the same by region, model, tenant and cause."""
        return self.last(window_s).document()

    def last(self, window_s: float) -> Window:
        """The last ``window_s`` seconds."""
        now_s = self._now_s()
        window_s = min(max(1.0, window_s), WINDOW_S_MAX)
        window = Window(window_s, max(1.0, min(window_s, now_s - self._started_s)))
        if self._second > now_s - window_s:
            for key, tally in self._slot.items():
                window.tallies.setdefault(key, Tally()).merge(tally)
        for second, slot in reversed(self._slots):
            if second <= now_s - window_s:
                break
            for key, packed in slot.items():
                window.tallies.setdefault(key, Tally()).add(packed)
        return window

    def _new_tenant(self, tenant: str) -> str:
        if len(self._tenants) >= _TENANTS_MAX:
            return OTHER
        self._tenants.add(tenant)
        return tenant


def is_error(kind: RequestKind | Record) -> bool:
    """These requests failed for a reason that is neither the client's nor a limit of its own that is used up."""
    if kind.error is None:
        return kind.cause in _FAULTY
    code = CODES.get(kind.error)
    return code is None or (code.blame is not Blame.CLIENT and kind.error != "quota_exhausted")


def percentile(buckets: dict[int, int], quantile: float) -> float | None:
    """The value below which ``quantile`` of the counts lie; None without any."""
    rank = math.ceil(quantile * sum(buckets.values()))
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            return math.exp((bucket + 0.5) / _BUCKETS_PER_E)
    return None


def _bucket(seconds: float) -> int:
    return math.floor(math.log(max(seconds, 1e-6)) * _BUCKETS_PER_E)
