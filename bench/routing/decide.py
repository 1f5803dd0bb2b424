"""What one decision costs: microseconds for fleets of several sizes, the lease included."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Sequence
from statistics import median

from router.core.decisions import Dispatch
from router.core.fleet import Fleet
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import make_policy
from router.core.types import BackendSpec, RegionSpec, Request, Usage

#: backends -> the most a decision may cost, in microseconds
BUDGETS_US = {16: 10.0, 64: 25.0, 256: 100.0}
_MODEL = "llama-3.1-8b"
_ROUNDS = 15
_DECISIONS = 400
_TICK_EVERY = 40  # decisions between two ticks: 400 requests per second


def _fleet(backends: int) -> Fleet:
    regions = [RegionSpec(f"region-{i}", None, (10.0 * i, 20.0 * i)) for i in range(4)]
    specs = [
        BackendSpec(f"{regions[i % 4].name}/{i}", regions[i % 4], f"http://b{i}", "vllm", (_MODEL,), 1 << 20)
        for i in range(backends)
    ]
    fleet = Fleet(Params(), router_region="region-0")
    fleet.apply(specs, 0.0)
    return fleet


def _request(rng: random.Random) -> Request:
    document = rng.randrange(50)
    blocks = tuple(hash((document, i)) & 0xFFFFFFFF for i in range(20)) + tuple(rng.getrandbits(32) for _ in range(10))
    return Request("r", _MODEL, prompt_tokens=1900, prefix_blocks=blocks, tokens_per_block=64.0)


def decision_us(backends: int, policy: str = "ttft") -> tuple[float, float]:
    """(median, highest) of the mean cost of a decision over several rounds, in microseconds, ticks included."""
    rng = random.Random(1)
    fleet, chooser = _fleet(backends), make_policy(policy, Params())
    requests = [_request(rng) for _ in range(_DECISIONS)]
    costs, now_s = [], 1.0
    gc.collect()
    gc.disable()
    try:
        for _ in range(_ROUNDS):
            leases, spent_s = [], 0.0
            for i, request in enumerate(requests):
                now_s += Params().tick_s / _TICK_EVERY
                start_s = time.perf_counter()
                decision = fleet.decide(request, chooser, now_s, rng)
                spent_s += time.perf_counter() - start_s
                assert isinstance(decision, Dispatch)
                leases.append(decision.lease)
                if i >= 20:
                    fleet.first_token(leases[i - 20], now_s)
            for lease in leases:
                fleet.end(lease, Outcome.OK, now_s, Usage(1900, 100, None, True))
            costs.append(spent_s / len(requests) * 1e6)
    finally:
        gc.enable()
    return median(costs), max(costs)


def rows(sizes: Sequence[int] = tuple(BUDGETS_US)) -> list[dict[str, float]]:
    out = []
    for size in sizes:
        middle_us, most_us = decision_us(size)
        out.append({"backends": size, "median_us": middle_us, "highest_us": most_us, "budget_us": BUDGETS_US[size]})
    return out


def text(figures: Sequence[dict[str, float]]) -> str:
    lines = ["backends  median us  highest us  budget us"]
    lines += [
        f"{row['backends']:8.0f}  {row['median_us']:9.1f}  {row['highest_us']:10.1f}  {row['budget_us']:9.0f}"
        for row in figures
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(text(rows()))
