"""Scenarios are made from a seed alone, and hundreds of them have everything."""

from __future__ import annotations

from router.core.policy import POLICIES
from sim.seeds.scenario import part_of, scenario_of
from sim.seeds.troubles import KINDS


def test_the_same_seed_makes_the_same_scenario() -> None:
    assert scenario_of(5) == scenario_of(5)
    assert scenario_of(5) != scenario_of(6)


def test_hundreds_have_every_trouble_and_every_policy() -> None:
    scenarios = [scenario_of(seed) for seed in range(320)]
    assert {trouble.kind for scenario in scenarios for trouble in scenario.troubles} == set(KINDS)
    assert {scenario.policy for scenario in scenarios} == set(POLICIES)
    asks = [ask for scenario in scenarios for ask in scenario.asks]
    for trait in ("residency", "pin_region", "pin_backend", "light", "deadly"):
        assert any(getattr(ask, trait) for ask in asks), trait
    assert any(len(scenario.routers) > 1 for scenario in scenarios)
    assert any(not scenario.troubles for scenario in scenarios)


def test_troubles_are_over_in_the_end() -> None:
    for seed in range(50):
        scenario = scenario_of(seed)
        assert all(trouble.until_s <= scenario.until_s for trouble in scenario.troubles)
        assert [trouble.at_s for trouble in scenario.troubles] == sorted(t.at_s for t in scenario.troubles)


def test_a_part_keeps_the_numbers() -> None:
    whole = scenario_of(2)
    part = part_of(whole, {whole.asks[1].number}, ())
    assert part.asks == (whole.asks[1],)
    assert part.troubles == ()
    assert (part.boxes, part.policy, part.params) == (whole.boxes, whole.policy, whole.params)
