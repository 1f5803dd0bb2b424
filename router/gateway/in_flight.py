"""The requests that are on their way now, as JSON for operators.

Nothing is kept for it: it looks at the exchanges that serve them, when somebody asks.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from typing import Any

from router.gateway.exchange import Exchange
from router.telemetry.journal import known_of


def in_flight(live: Collection[Exchange], now_s: float, most: int) -> tuple[list[dict[str, Any]], int]:
    """The oldest ``most`` of them, the oldest first, and how many there are."""
    oldest = heapq.nsmallest(most, live, key=lambda x: x.arrival_s)
    return [document(x, now_s) for x in oldest], len(live)


def document(x: Exchange, now_s: float) -> dict[str, Any]:
    """One request. ``phase`` is what it waits for: see ``phase_of``."""
    record, lease, phase = x.record, x.lease, phase_of(x)
    there = lease is not None and phase not in ("admission", "place")
    backend = lease.backend if there and lease is not None else None
    return known_of(record) | {
        "age_s": max(0.0, now_s - x.arrival_s),
        "phase": phase,
        "region": None if backend is None else backend.partition("/")[0],
        "backend": backend,
        "hedge": None if x.hedge is None else x.hedge.lease.backend,
        "attempts": len(record.attempts) + there,
        "at_backend_s": max(0.0, now_s - lease.started_s) if there and lease is not None else None,
        "predicted_ttft_s": lease.predicted_ttft_s if there and lease is not None else None,
        "output_tokens": x.relay.events if x.relay is not None else 0,
    }


def phase_of(x: Exchange) -> str:
    """``admission``: its key, its body, its limits; ``place``: every backend is full, or one is being woken;
    ``connection``: to its backend; ``first token``, or ``answer`` if it is not streamed; ``stream``: the rest of an
    answer that has begun."""
    if x.course is None:
        return "admission"
    if x.lease is None or x.lease.ended:
        return "stream" if x.answer.begun else "place"
    if x.answer.begun:
        return "stream"
    if x.relay is None:
        return "connection"
    return "first token" if x.record.stream else "answer"
