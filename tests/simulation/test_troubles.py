"""Each trouble does something, and when it is over everything is as it was."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from sim.seeds.machine import Machine
from sim.seeds.play import Play
from sim.seeds.scenario import Scenario, scenario_of
from sim.seeds.troubles import KINDS, Trouble, draw_trouble


def one_router() -> Scenario:
    return next(s for s in map(scenario_of, range(99)) if len(s.routers) == 1 and len(s.boxes) > 2)


def state_of(machine: Machine) -> tuple[object, ...]:
    return (machine.deaths, machine.frozen, machine.cut_off, round(machine.slowness, 6), list(machine.ills))


def state(play: Play) -> object:
    router = play.routers[0]
    fleet = router.site.fleet
    return (
        [state_of(machine) for machine in play.machines.values()],
        play.configured,
        play.store_paused,
        (router.nameless, router.short),
        [(b.name, b.draining, b.leaving, b.spec) for b in sorted(fleet.backends.values(), key=lambda b: b.name)],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_begins_and_ends(kind: str) -> None:
    scenario = one_router()
    name = scenario.boxes[0].spec.name
    where = {"box": name, "region": name.split("/")[0], "router": "0"}[KINDS[kind].target]
    trouble = Trouble(0, kind, 1.0, 2.0, where, KINDS[kind].amounts[0])
    scenario = replace(scenario, troubles=(trouble,), asks=(), until_s=4.0)
    before = state(Play(scenario))
    seen: list[object] = []
    play = Play(scenario)
    play.at(scenario.from_s + 1.3, lambda now_s: seen.append(state(play)))
    stopped_s = play.routers[0].stopped_until_s
    play.run()
    assert state(play) == before
    if kind == "clock step":
        assert play.routers[0].stopped_until_s > stopped_s
    elif kind != "reset":
        assert seen[0] != before


def test_it_is_drawn_by_chance_and_says_what_it_is() -> None:
    drawn = [draw_trouble(i, ["a/b", "c/d"], 2, 10.0, random.Random(i)) for i in range(100)]
    assert {trouble.where for trouble in drawn} == {"a/b", "c/d", "a", "c", "0", "1"}
    assert str(Trouble(1, "slowness", 0.0, 2.0, "a/b", 3.0)) == "slowness of a/b for 2.0 s (3)"
