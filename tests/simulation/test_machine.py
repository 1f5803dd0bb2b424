"""The simple engine of the scenarios."""

from __future__ import annotations

from typing import cast

from sim.seeds.machine import Machine
from sim.seeds.scenario import Box
from sim.seeds.story import Attempt
from tests.support.fleets import spec


class Asked:
    def __init__(self, number: int) -> None:
        self.number = number


def asked(number: int) -> Attempt:
    return cast("Attempt", Asked(number))


def machine() -> Machine:
    return Machine(Box(spec("us-east/a"), places=2, base_s=0.1, prompt_token_s=0.001, token_s=0.02))


def test_a_first_token_takes_longer_for_long_prompts_slow_engines_and_full_ones() -> None:
    engine = machine()
    assert engine.first_token_s(100) == 0.2
    engine.slowness = 3.0
    assert engine.first_token_s(100) > 0.59
    engine.served.add(asked(1))
    assert engine.first_token_s(100) > 0.61


def test_a_new_process_knows_nobody() -> None:
    engine = machine()
    first, second, third = asked(1), asked(2), asked(3)
    engine.served.add(third)
    engine.waiting.append(first)
    engine.parked.append(("reach", second))
    life = engine.life
    assert engine.forget() == [first, second, third]
    assert engine.life == life + 1
    assert not engine.served
    assert not engine.waiting
    assert not engine.parked


def test_what_ails_it_shows_in_probes_and_scrapes() -> None:
    engine = machine()
    assert engine.well
    assert engine.takes_probe()
    engine.ills.append("stale")
    first = engine.sample(1.0)
    engine.served.add(asked(1))
    later = engine.sample(5.0)
    assert first is not None
    assert later is not None
    assert (later.at_s, later.running) == (5.0, first.running)
    engine.ills = ["unscraped", "blind"]
    assert engine.sample(6.0) is None
    assert not engine.takes_probe()
    assert not engine.well
    engine.ills, engine.frozen = [], 1
    assert engine.sample(7.0) is None
    assert not engine.takes_probe()
