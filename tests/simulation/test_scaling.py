"""Deployments in simulated worlds: the number that the router asks for, by the formula of the autoscaler."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from router.core.census import Census
from router.core.needed import Goal
from sim.geography import DEFAULT_REGIONS
from sim.profiles import PROFILES
from sim.scaling import Deployment, ask_often, hpa, hpa_average, needed_rule
from sim.traces import Arrival, Trace
from sim.world import Flow, World
from sim.world_plan import WorldPlan, built_in_world

REGION = DEFAULT_REGIONS[0]
#: an engine that is busy for 0.2 s with a prompt of 400 tokens
PROFILE = replace(PROFILES["demo"], prefill_token_s=0.0005)
PROMPT_TOKENS, ANSWER_TOKENS = 400, 60


def plan(backends: int) -> WorldPlan:
    return built_in_world(PROFILE, (REGION,), backends=backends)


def traffic(rate: Callable[[float], float], duration_s: float, seed: int = 1) -> Trace:
    """Requests that have nothing in common, at ``rate(at_s)`` per second."""
    rng = random.Random(seed)
    most = max(rate(float(at)) for at in range(int(duration_s) + 1))
    arrivals, at_s = [], 0.0
    while (at_s := at_s + rng.expovariate(most)) < duration_s:
        if rng.random() * most < rate(at_s):
            prompt = max(20, round(PROMPT_TOKENS * rng.lognormvariate(-0.08, 0.4)))
            answer = max(5, round(ANSWER_TOKENS * rng.expovariate(1.0)))
            arrivals.append(Arrival(at_s, prompt, answer, session=str(len(arrivals)), region=REGION.name))
    return Trace("wave", tuple(arrivals))


def wave(at_s: float) -> float:
    """5 a second, in four minutes up to 15, for three minutes, and back in two."""
    up, down = min(1.0, max(0.0, (at_s - 150.0) / 240.0)), min(1.0, max(0.0, (at_s - 570.0) / 120.0))
    return 5.0 + 10.0 * (up - down)


def p95(flows: list[Flow]) -> float:
    times = sorted(f.ttft_s for f in flows if f.ttft_s is not None)
    return times[int(0.95 * len(times))]


def test_the_formula_of_the_autoscaler() -> None:
    assert hpa(2, 2, 2.5, 1.0) == 5
    assert hpa(5, 2, 2.5, 1.0) == 5  # three of them are starting
    assert hpa(5, 5, 0.4, 1.0) == 2
    assert hpa(10, 10, 1.09, 1.0) == 10  # within the tolerance
    assert hpa(0, 0, 3.0, 1.0) == 3
    assert hpa_average(2, 5.0, 1.0) == 5
    assert hpa_average(0, 5.0, 1.0) == 5
    assert hpa_average(5, 5.0, 1.0) == 5


def test_a_wave_takes_a_deployment_from_two_to_five_and_back() -> None:
    world = World(plan(8), "ttft", block_tokens=64)
    deployment = Deployment(world, REGION.name, 2, cold_start_s=30.0)
    goal = Goal(target_ttft_s=1.0, least=1, most=8, hold_s=60.0, cold_start_s=30.0)
    site = world.sites[REGION.name]
    rule, counting = needed_rule(site.fleet, "llama-3.1-8b", REGION.name, goal, lambda: len(site.queue))
    flows = world.run(traffic(wave, 960.0), counting + ask_often(deployment, rule, 960.0))
    wished = [replicas for _, replicas, _ in deployment.history]
    assert all(f.error is None for f in flows)
    assert (wished[0], max(wished), wished[-1]) == (2, 5, 2), deployment.history
    changes = [after - before for before, after in pairwise(wished) if before != after]
    assert changes == sorted(changes, reverse=True), deployment.history  # up, then down
    assert p95(flows) <= 1.0


@pytest.mark.parametrize(("per_s", "backends"), [(2.0, 1), (4.0, 2), (9.0, 3), (12.0, 3), (16.0, 4)])
def test_what_is_predicted_is_what_comes(per_s: float, backends: int) -> None:
    """The prediction for the backends that are there, beside what they do: within a factor of 1.6."""
    world = World(plan(backends), "ttft", block_tokens=64)
    census, found = Census(world.sites[REGION.name].fleet), []

    def look(_: World, now_s: float) -> None:
        groups = census.look({"llama-3.1-8b": Goal(1.0)}, {}, now_s)
        found.append(groups[0].predicted_p95_s or 0.0)

    flows = world.run(traffic(lambda _: per_s, 240.0), [(60.0 + 2.0 * at, look) for at in range(90)])
    seen_s, predicted_s = p95([f for f in flows if f.arrival.at_s > 60.0]), sorted(found)[len(found) // 2]
    assert seen_s / 1.6 <= predicted_s <= seen_s * 1.6
