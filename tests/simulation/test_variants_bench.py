"""The gain of smaller variants under load: the measurement of docs/capacity.md, on traffic that takes seconds."""

from __future__ import annotations

import random
from dataclasses import replace

from bench.variants import BIG, REGION, SMALL, by_room, play, rows, text, world_of
from router.core.degrading import Smaller
from sim.traces import Arrival, Trace
from sim.world import World

TARGET_S = 0.6


def traffic(per_s: float, duration_s: float) -> Trace:
    rng, arrivals, at_s = random.Random(1), [], 0.0
    while (at_s := at_s + rng.expovariate(per_s)) < duration_s:
        arrivals.append(Arrival(at_s, 1500, 200, session=str(len(arrivals)), region=REGION.name))
    return Trace("even", tuple(arrivals))


def test_what_is_too_much_for_the_large_model_comes_in_time() -> None:
    big, without, with_ = rows(traffic(8.0, 60.0), 1, 2, TARGET_S)
    assert big.gpus == without.gpus == with_.gpus == 4
    assert without.late > 0.5
    assert with_.late < 0.2
    assert 0.1 < with_.given < 1.0
    assert (without.given, without.strains) == (0.0, 0)
    assert with_.strains >= 1
    assert len(text([big, without, with_]).splitlines()) == 4


def test_a_load_that_the_large_model_carries_gets_no_variant() -> None:
    row = play("variants", traffic(1.0, 30.0), 2, 1, TARGET_S, variants=True)
    assert (row.given, row.strains, row.strained_s) == (0.0, 0, 0.0)


def test_the_less_room_a_model_keeps_the_more_requests_get_the_variant() -> None:
    none, some, much = by_room(traffic(8.0, 60.0), 1, 2, TARGET_S, [0.0, 0.25, 1.0])
    assert none.given > some.given > much.given
    assert [row.name for row in (none, some, much)] == ["room 0", "room 0.25", "room 1"]


def test_the_rule_is_that_of_the_gateway_conversations_included() -> None:
    """A router of the world refuses the variant to who has a beginning that the large model knows."""
    rule = Smaller(BIG, (SMALL,), TARGET_S)
    world = World(world_of(1, 1, rule), "ttft", seed=1)
    load = traffic(8.0, 40.0)
    talk = tuple(range(1, 24))
    talks = tuple(replace(a, at_s=i * 1.0, blocks=talk, session="talk") for i, a in enumerate(load.arrivals[:35]))
    arrivals = tuple(sorted(load.arrivals + talks, key=lambda a: a.at_s))
    flows = world.run(Trace("mixed", arrivals))
    degrading = world.sites[REGION.name].degrading
    given = sum(f.request.model == SMALL for f in flows)
    assert given == sum(degrading.counts.values()) - sum(
        f.request.model == BIG for f in flows if len(f.course.models) > 1
    )
    stayed = [f.request.model == BIG for f in flows if f.arrival.session == "talk" and f.started_s > 10.0]
    others = [f.request.model == BIG for f in flows if f.arrival.session != "talk" and f.started_s > 10.0]
    assert sum(stayed) / len(stayed) > 0.95
    assert sum(others) / len(others) < 0.8
