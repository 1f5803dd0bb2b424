"""A scenario is carried out as planned: requests, troubles, then the calm and the last requests."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.traits import Continues
from sim.seeds.play import Play
from sim.seeds.scenario import Ask, Scenario, scenario_of
from sim.seeds.troubles import Trouble


def told(scenario: Scenario) -> list[str]:
    lines: list[str] = []
    Play(scenario, lines.append).run()
    return [line.split("  ", 1)[1].strip() for line in (line.strip() for line in lines)]


@pytest.fixture
def simple() -> Scenario:
    """One router, two backends in its region that are alike, both with every model, no trouble."""
    scenario = scenario_of(0)
    box = scenario.boxes[0]
    region = scenario.routers[0]
    place = scenario.regions[region]
    boxes = tuple(
        replace(
            box,
            spec=replace(box.spec, name=f"{region}/{x}", region=place, models=("big",), max_inflight=4),
            places=4,
            base_s=0.1,
        )
        for x in "ab"
    )
    ask = Ask(1, 1.0, 0, ("big",), 100, 50, "a")
    return replace(
        scenario, boxes=boxes, routers=(region,), asks=(ask,), troubles=(), until_s=2.0, policy="round_robin"
    )


def test_a_request_is_answered_and_the_last_ones_too(simple: Scenario) -> None:
    lines = told(simple)
    assert "request 1 is answered" in lines
    assert lines.index("all is calm") > lines.index("request 1 is answered")
    assert lines[-1] == "request 2 is answered"


def test_a_death_is_invisible_before_the_first_token(simple: Scenario) -> None:
    name = next(line.split()[-1] for line in told(simple) if "goes to" in line)
    lines = told(replace(simple, troubles=(Trouble(0, "death", 1.03, 1.0, name),)))
    assert f"request 1 fails at {name}: unreachable (died)" in lines
    assert "request 1 is answered" in lines


def test_a_frozen_engine_costs_a_timeout(simple: Scenario) -> None:
    name = next(line.split()[-1] for line in told(simple) if "goes to" in line)
    lines = told(replace(simple, troubles=(Trouble(0, "freeze", 0.9, 30.0, name),), until_s=31.0))
    assert any(line.startswith(f"request 1 fails at {name}") for line in lines)
    assert "request 1 is answered" in lines


def test_a_deadly_request_kills_two_and_is_stopped(simple: Scenario) -> None:
    lines = told(replace(simple, asks=(replace(simple.asks[0], deadly=True),)))
    assert sum("dies of request 1" in line for line in lines) == 2
    assert "request 1 ends: unreachable" in lines


def test_a_client_that_leaves_frees_its_place(simple: Scenario) -> None:
    box = replace(simple.boxes[0], spec=replace(simple.boxes[0].spec, max_inflight=1))
    first, second = replace(simple.asks[0], leaves_s=0.05), replace(simple.asks[0], number=2, at_s=1.01)
    lines = told(replace(simple, boxes=(box,), asks=(first, second)))
    assert lines.index("request 2 waits: every usable backend is full") < lines.index("request 1 ends: client_gone")
    assert "request 2 is answered" in lines


def test_a_stream_that_breaks_off_is_gone_on_with_elsewhere(simple: Scenario) -> None:
    name = next(line.split()[-1] for line in told(simple) if "goes to" in line)
    ask = replace(simple.asks[0], rest=Continues.TEXT)
    boxes = tuple(replace(box, spec=replace(box.spec, engine="vllm")) for box in simple.boxes)
    lines = told(replace(simple, boxes=boxes, asks=(ask,), troubles=(Trouble(0, "death", 1.8, 1.0, name),)))
    assert any(line.startswith("request 1 broke off after ") for line in lines)
    assert "request 1 is answered" in lines
