"""Plans of worlds: the distances, and which router a client asks."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from sim.world_plan import built_in_world, configured_world

PLAN = built_in_world("demo")


def test_a_configured_world_has_the_distances_of_its_places() -> None:
    plan = configured_world([m.spec for m in PLAN.machines], "demo")
    assert plan.regions == PLAN.regions
    assert plan.rtt_s["us-east", "us-east"] < 0.005
    assert plan.rtt_s["us-east", "ap-northeast"] > plan.rtt_s["us-east", "eu-central"] > 0.05


def test_a_client_asks_the_router_of_its_own_region() -> None:
    assert PLAN.home_of("eu-central", "anybody") == "eu-central"


def test_clients_without_a_place_are_spread_as_the_plan_says() -> None:
    chance = random.Random(1)
    sessions = [chance.randbytes(6).hex() for _ in range(3000)]
    even = Counter(PLAN.home_of(None, session) for session in sessions)
    assert all(900 < even[region] < 1100 for region in PLAN.regions)
    uneven = replace(PLAN, shares={"us-east": 3.0, "eu-central": 1.0})
    counts = Counter(uneven.home_of("mars", session) for session in sessions)
    assert 2150 < counts["us-east"] < 2350
    assert counts["ap-northeast"] == 0
