"""Processor time of a request's way through the core: chosen among all, counted, first token, end."""

from __future__ import annotations

import random
import time

from router.core.decisions import Dispatch
from router.core.fleet import Fleet
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import POLICIES
from router.core.types import BackendSpec, LoadSample, RegionSpec, Request, Usage

MODEL = "m"
REGIONS = 5
#: requests in flight for each backend, half of what makes it wait
INFLIGHT = 8


def fleet_of(backends: int) -> Fleet:
    fleet = Fleet(Params(), router_region="r0")
    regions = [RegionSpec(f"r{n}", "us", (0.0, 60.0 * n)) for n in range(REGIONS)]
    specs = []
    for n in range(backends):
        region = regions[n % REGIONS]
        specs.append(BackendSpec(f"{region.name}/{n}", region, url=f"http://b{n}:1", engine="vllm", models=(MODEL,)))
    fleet.apply(specs, 0.0)
    for name in fleet.backends:
        fleet.observe_load(name, LoadSample(0.0, running=INFLIGHT, waiting=0, kv_ratio=0.3), 0.0)
    return fleet


def request_us(backends: int, *, requests: int, seed: int = 1) -> float:
    """Microseconds for each request, with as many in flight as the fleet serves easily."""
    fleet, rng = fleet_of(backends), random.Random(seed)
    policy = POLICIES["ttft"](fleet.params)
    inflight = min(INFLIGHT * backends, 2000)
    leases, now_s = [], 1.0
    spent_s = 0.0
    for n in range(inflight + requests):
        now_s += 0.2 / inflight
        request = Request(request_id=str(n), model=MODEL, prompt_tokens=rng.randrange(20, 2000))
        began_s = time.process_time()
        decision = fleet.decide(request, policy, now_s, rng)
        assert isinstance(decision, Dispatch)
        fleet.first_token(decision.lease, now_s + 0.05)
        leases.append(decision.lease)
        if n >= inflight:
            fleet.end(leases[n - inflight], Outcome.OK, now_s, Usage(100, 50, None, True))
            spent_s += time.process_time() - began_s
    return spent_s / requests * 1e6
