"""The clients of one kind of limit move from region to region, routers are killed, scripts are flushed."""

from __future__ import annotations

import itertools
import time
from typing import Any

from bench.quota.fleet import LetIn, Region, command
from bench.quota.region import Shift
from router.store.shared import LEASE_S

CLIENTS = 256
#: For a round to begin on time everywhere, and for what is in flight at its end.
LEAD_S, REST_S = 0.5, 2.0
#: Of the routers, which one is killed at its work.
VICTIM = 2
ROUNDS: dict[str, dict[str, Any]] = {
    "requests": {"requests_per_minute": 600},
    "tokens": {"tokens_per_minute": 60_000},
    "concurrent": {"concurrent": 60},
    "budget": {"budget_usd_month": 0.06},
}


def play(regions: list[Region], port: int, kind: str, shift_s: float, laps: int) -> dict[str, float]:
    """All clients in one region after the other; once in a lap two routers are killed, and the scripts are flushed."""
    began_s = time.time() + LEAD_S
    shifts = laps * len(regions)

    def give(number: int) -> None:
        """One shift ahead, as starting a router takes a while."""
        if number < shifts:
            begin_s = began_s + number * shift_s
            regions[number % len(regions)].give(Shift(kind, ROUNDS[kind], CLIENTS, begin_s, begin_s + shift_s))

    give(0)
    for number in range(shifts):
        begin_s = began_s + number * shift_s
        time.sleep(max(0.0, begin_s - time.time()))
        give(number + 1)
        if number % len(regions) == VICTIM:
            time.sleep(max(0.0, begin_s + shift_s / 2 - time.time()))
            command(port, "SCRIPT", "FLUSH")
            if kind != "concurrent" or shift_s > LEASE_S:  # its places are free again after the lease
                for region in (regions[VICTIM], regions[VICTIM - 1]):
                    region.kill()
                    region.start()
                if time.time() < begin_s + shift_s:
                    now_s = time.time()
                    regions[VICTIM].give(Shift(kind, ROUNDS[kind], CLIENTS, now_s, begin_s + shift_s))
    end_s = began_s + shifts * shift_s
    time.sleep(max(0.0, end_s - time.time()) + REST_S)
    (most,) = ROUNDS[kind].values()
    return account(kind, most, let_in(regions, kind), began_s, end_s)


def let_in(regions: list[Region], key: str) -> list[LetIn]:
    return [request for region in regions for request in list(region.took) if request.key == key]


def account(kind: str, most: float, took: list[LetIn], began_s: float, end_s: float) -> dict[str, float]:
    """The most that was right, what was admitted, and the highest excess at any moment of the round."""
    if kind == "concurrent":
        steps = sorted([(r.end_s, -1) for r in took] + [(r.begin_s, 1) for r in took])
        peak = max(itertools.accumulate(step for _, step in steps), default=0)
        used = sum(max(0.0, min(r.end_s, end_s) - r.begin_s) for r in took) / (end_s - began_s)
        return {"allowed": most, "admitted": peak, "excess": peak - most, "share": used / most}
    rate = 0.0 if kind == "budget" else most / 60
    admitted, excess = 0.0, -float(most)
    for r in sorted((r for r in took if r.begin_s <= end_s), key=lambda r: r.begin_s):
        admitted += {"requests": 1.0, "tokens": float(r.tokens), "budget": r.microusd / 1e6}[kind]
        excess = max(excess, admitted - most - rate * (r.begin_s - began_s))
    allowed = most + rate * (end_s - began_s)
    return {"allowed": allowed, "admitted": round(admitted, 6), "excess": round(excess, 6), "share": admitted / allowed}
