"""Misbehaviour on demand: what an engine does wrong, how often, for how long. Pure: the caller tells the time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from math import inf
from typing import Any

#: kind -> (its own parameters with defaults, what it does). `POST /sim/faults` takes these.
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "error_status": (
        {"status": 500, "retry_after_s": None, "message": None},
        "a request to generate is answered with this status, in the engine's own words",
    ),
    "in_band_error": (
        {"status": 500, "message": None},
        "a stream says 200, then an error event and [DONE]",
    ),
    "stall_before_first_token": (
        {"stall_s": 30.0},
        "the request is taken and nothing comes for that long; the tokens then come all at once",
    ),
    "stall_after_tokens": (
        {"tokens": 5, "stall_s": 30.0},
        "the stream pauses after that many tokens of a choice",
    ),
    "drip": ({"gap_s": 1.0}, "at least that long between two tokens: slow, but legal"),
    "cut_after_tokens": (
        {"tokens": 5, "how": "fin"},
        "the stream ends after that many tokens. how: fin, rst, clean (a whole HTTP message without [DONE]), truncated "
        "(half an event, then fin), error_done (in-band error and [DONE]), close_delimited (no framing but the close)",
    ),
    "garbage_line": (
        {"tokens": 5, "line": "data: {this is not json"},
        "one odd line in the stream after that many tokens, then it goes on",
    ),
    "crash": ({"tokens": None}, "the process dies without a word: at the request, or after that many tokens"),
    "refuse": ({}, "no listener: connections are refused; those that are open go on"),
    "accept_reset": ({}, "a new connection is accepted and reset"),
    "freeze": (
        {"what": "process"},
        "process: connections are accepted and no byte passes, as under SIGSTOP; engine: HTTP answers, no token comes",
    ),
    "slow": ({"factor": 4.0}, "every iteration takes that many times as long: a throttled GPU"),
    "metrics": (
        {"how": "missing"},
        "missing (404), stale (numbers stand still), garbage, renamed, huge (50 MB), gzip_bomb, slow (hangs)",
    ),
    "health": ({"how": "fail", "status": 503}, "/health fails with the status, or hangs"),
    "drain": (
        {"how": "finish"},
        "as after SIGTERM. finish: /health 503, requests are still served; hidden: /health 200, new requests get 500; "
        "error: refuse connections, open streams get an in-band error; silence: refuse, open streams stay silent",
    ),
}


@dataclass(slots=True)
class Fault:
    id: int
    kind: str
    params: dict[str, Any] = field(default_factory=dict)
    count: int | None = None  # how many more times; None: no limit
    until_s: float = inf
    probability: float = 1.0


class FaultError(ValueError):
    """What was asked for is not a fault."""


class Faults:
    """The faults in force."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._active: dict[int, Fault] = {}
        self._next_id = 1

    def add(self, body: dict[str, Any], now_s: float) -> Fault:
        """Put a fault in force: ``kind``; if wanted ``count``, ``for_s``, ``probability``; the kind's parameters."""
        kind = body.get("kind")
        if kind not in KINDS:
            raise FaultError(f"unknown kind {kind!r}: one of {', '.join(KINDS)}")
        defaults = KINDS[kind][0]
        given = {k: v for k, v in body.items() if k not in ("kind", "count", "for_s", "probability")}
        if unknown := [k for k in given if k not in defaults]:
            raise FaultError(f"{kind} has no {', '.join(unknown)}: it takes {', '.join(defaults) or 'nothing'}")
        for_s = body.get("for_s")
        unreachable = kind == "refuse" or (kind == "freeze" and given.get("what", "process") == "process")
        if unreachable and for_s is None:
            raise FaultError(f"{kind} needs for_s: this endpoint could not be reached to end it")
        fault = Fault(
            self._next_id,
            kind,
            defaults | given,
            count=body.get("count"),
            until_s=inf if for_s is None else now_s + float(for_s),
            probability=float(body.get("probability", 1.0)),
        )
        self._next_id += 1
        self._active[fault.id] = fault
        return fault

    def remove(self, fault_id: int) -> bool:
        return self._active.pop(fault_id, None) is not None

    def clear(self) -> None:
        self._active.clear()

    def active(self, now_s: float) -> list[Fault]:
        for fault in [f for f in self._active.values() if f.until_s <= now_s or f.count == 0]:
            del self._active[fault.id]
        return list(self._active.values())

    def find(self, kind: str, now_s: float) -> Fault | None:
        """A fault of this kind that is in force, without using it up."""
        return next((f for f in self.active(now_s) if f.kind == kind), None)

    def strike(self, kind: str, now_s: float) -> Fault | None:
        """Does a fault of this kind hit now? Each hit counts."""
        for fault in self.active(now_s):
            if fault.kind == kind and (fault.probability >= 1.0 or self._rng.random() < fault.probability):
                if fault.count is not None:
                    fault.count -= 1
                return fault
        return None

    def next_end_s(self, now_s: float) -> float:
        """When the next fault that lasts for a time is over."""
        return min((f.until_s for f in self.active(now_s)), default=inf)
