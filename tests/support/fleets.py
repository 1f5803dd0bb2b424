"""Small fleets for tests of the core: no clock, no network, chance from a seed."""

from __future__ import annotations

import random
from typing import Any

from router.core.decisions import Dispatch
from router.core.fleet import Fleet
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import POLICIES, Policy
from router.core.types import BackendSpec, Lease, RegionSpec, Request, Usage

MODEL = "llama-3.1-8b"

#: the name, jurisdiction and place of the regions that tests use
REGIONS = {
    "us-east": RegionSpec("us-east", "us", (38.9, -77.0)),
    "us-west": RegionSpec("us-west", "us", (37.4, -122.1)),
    "eu-west": RegionSpec("eu-west", "eu", (53.3, -6.3)),
    "ap-east": RegionSpec("ap-east", "jp", (35.7, 139.7)),
}


def spec(name: str, **changes: Any) -> BackendSpec:
    region, short = name.split("/")
    fields: dict[str, Any] = {"url": f"http://{short}.{region}:8000", "engine": "vllm", "models": (MODEL,)}
    return BackendSpec(name, REGIONS[region], **{**fields, **changes})


def fleet_of(
    *names: str, params: Params | None = None, now_s: float = 0.0, home: str = "us-east", **changes: Any
) -> Fleet:
    fleet = Fleet(params or Params(), router_region=home)
    fleet.apply([spec(name, **changes) for name in names], now_s)
    return fleet


def ask(**changes: Any) -> Request:
    return Request(**{"request_id": "req", "model": MODEL, "prompt_tokens": 100, **changes})


class Driver:
    """Sends requests through a fleet and lets them end, the way the data plane does."""

    def __init__(self, fleet: Fleet, policy: str = "ttft", seed: int = 1) -> None:
        self.fleet = fleet
        self.policy: Policy = POLICIES[policy](fleet.params)
        self.rng = random.Random(seed)

    def send(self, now_s: float, exclude: tuple[str, ...] = (), **changes: Any) -> Lease:
        decision = self.fleet.decide(ask(**changes), self.policy, now_s, self.rng, exclude=exclude)
        assert isinstance(decision, Dispatch), decision
        return decision.lease

    def serve(self, now_s: float, ttft_s: float = 0.1, **changes: Any) -> Lease:
        """A request that is answered well."""
        lease = self.send(now_s, **changes)
        self.fleet.first_token(lease, now_s + ttft_s)
        self.fleet.end(lease, Outcome.OK, now_s + ttft_s + 0.1, Usage(100, 10, None, True))
        return lease

    def fail(self, now_s: float, outcome: Outcome, **changes: Any) -> Lease:
        lease = self.send(now_s, **changes)
        self.fleet.end(lease, outcome, now_s)
        return lease
