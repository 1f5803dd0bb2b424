"""Machines serve as many as they have places, the others wait; deaths and freezes are theirs alone."""

from __future__ import annotations

from dataclasses import replace

from sim.seeds.play import Play
from sim.seeds.scenario import Ask, Scenario, scenario_of
from sim.seeds.troubles import Trouble


def one_place(*asks: Ask, trouble: Trouble | None = None) -> Scenario:
    """One backend that serves one request at a time, a first token in 0.1 s and a whole answer in 1.1 s."""
    scenario = scenario_of(0)
    region = scenario.routers[0]
    spec = replace(
        scenario.boxes[0].spec,
        name=f"{region}/a",
        region=scenario.regions[region],
        models=("big",),
        max_inflight=16,
        url="http://a",
    )
    box = replace(scenario.boxes[0], spec=spec, places=1, base_s=0.1, prompt_token_s=0.0, token_s=0.02)
    troubles = () if trouble is None else (replace(trouble, where=spec.name),)
    return replace(
        scenario,
        boxes=(box,),
        routers=(region,),
        asks=asks,
        troubles=troubles,
        until_s=30.0,
        policy="round_robin",
        first_token_s=6.0,
        token_gap_s=4.0,
    )


def times(scenario: Scenario) -> dict[str, float]:
    """When each line was told."""
    lines: dict[str, float] = {}

    def tell(line: str) -> None:
        at, what = line.strip().split("  ", 1)
        lines.setdefault(what, float(at))

    Play(scenario, tell).run()
    return lines


FIRST, SECOND = (Ask(n, 1.0, 0, ("big",), 10, 50, "a") for n in (1, 2))


def test_the_second_waits_for_the_place_of_the_first() -> None:
    told = times(one_place(FIRST, SECOND))
    assert 2.1 < told["request 1 is answered"] < 2.11
    assert 3.2 < told["request 2 is answered"] < 3.21


def test_a_place_is_free_when_its_client_has_left() -> None:
    told = times(one_place(replace(FIRST, leaves_s=0.3), SECOND))
    assert 2.4 < told["request 2 is answered"] < 2.42


def test_what_is_frozen_goes_on_where_it_was() -> None:
    told = times(one_place(FIRST, trouble=Trouble(0, "freeze", 1.05, 3.0, "")))
    assert 5.0 < told["request 1 is answered"] < 5.1


def test_a_frozen_stream_is_given_up_after_the_gap() -> None:
    told = times(one_place(FIRST, trouble=Trouble(0, "freeze", 1.5, 9.0, "")))
    assert 5.5 <= told["request 1 ends: truncated"] < 5.51


def test_a_new_process_does_not_know_the_old_requests() -> None:
    told = times(one_place(FIRST, SECOND, trouble=Trouble(0, "death", 1.5, 0.5, "")))
    assert told["request 1 ends: truncated"] < 1.51
    assert told["request 2 ends: unreachable"] < 1.51
