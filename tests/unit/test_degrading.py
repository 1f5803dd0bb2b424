"""A smaller variant answers while its model is overloaded everywhere, and not to and fro."""

from __future__ import annotations

from itertools import pairwise
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from router.core.degrading import Degrading, Smaller, Strain
from router.core.fleet import Fleet
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.types import BackendSpec
from tests.support.fleets import Driver, ask, fleet_of, spec

BIG, SMALL, TINY = "big", "small", "tiny"
PARAMS = Params()
HOLD_S = PARAMS.degrade_hold_s


def fleet(*specs: BackendSpec) -> Fleet:
    made = fleet_of()
    made.apply(specs, 0.0)
    driver = Driver(made)
    for one in specs:
        for model in one.models:
            driver.serve(0.0, model=model, pin_region=one.region.name)
    return made


def two() -> Fleet:
    return fleet(spec("us-east/a", models=(BIG,), max_inflight=4), spec("us-east/s", models=(SMALL,)))


def fill(made: Fleet, requests: int, model: str = BIG, **changes: object) -> None:
    driver = Driver(made, "p2c")  # one that does not hold back what would queue
    for n in range(requests):
        driver.send(1.0, request_id=f"{model}-{n}", model=model, prompt_tokens=20_000, **changes)


def chosen(
    of: Degrading, now_s: float = 1.0, target_s: float = 1.0, variants: tuple[str, ...] = (SMALL,)
) -> str | None:
    found = of.choose(ask(model=BIG), Smaller(BIG, variants, target_s), now_s)
    return None if found is None else found.model


def test_a_model_that_keeps_its_target_answers_itself() -> None:
    of = Degrading(two())
    assert chosen(of, target_s=30.0) is None
    assert of.strained(1.0) == {}


def test_an_overloaded_one_is_answered_for_by_its_variant() -> None:
    made = two()
    of = Degrading(made)
    fill(made, 3)
    found = of.choose(ask(model=BIG), Smaller(BIG, (SMALL,), 0.5), 1.0)
    assert found is not None
    assert (found.model, found.instead_of) == (SMALL, BIG)
    assert found.own_s > 0.5 > found.predicted_s
    assert "big is overloaded: its first token was predicted after" in str(found)
    assert (of.counts, of.strained(1.0)) == ({(BIG, SMALL): 1}, {BIG: 1.0})


def test_full_is_over_any_target() -> None:
    made = two()
    fill(made, 4)
    found = Degrading(made).choose(ask(model=BIG), Smaller(BIG, (SMALL,), 1000.0), 1.0)
    assert found is not None
    assert found.own_s == inf
    assert "every backend of it is full" in str(found)


def test_everywhere_means_wherever_the_request_may_go() -> None:
    made = fleet(
        spec("us-east/a", models=(BIG,), max_inflight=4),
        spec("eu-west/a", models=(BIG,), max_inflight=4),
        spec("us-east/s", models=(SMALL,)),
    )
    fill(made, 4, pin_region="us-east")
    of = Degrading(made)
    assert chosen(of, target_s=5.0) is None, "eu-west is free"
    american = ask(model=BIG, residency=frozenset({"us"}))
    found = of.choose(american, Smaller(BIG, (SMALL,), 5.0), 1.0)
    assert found is not None
    assert chosen(of, target_s=5.0) is None, "one region's strain is not the others'"


def test_a_model_of_which_nothing_runs_is_not_overloaded() -> None:
    made = two()
    made.set_asleep("us-east/a", True)
    assert chosen(Degrading(made), target_s=0.001) is None


def test_the_first_variant_that_keeps_the_target_answers_and_none_that_is_slower() -> None:
    made = fleet(
        spec("us-east/a", models=(BIG,), max_inflight=4),
        spec("us-east/s", models=(SMALL,), max_inflight=4),
        spec("us-east/t", models=(TINY,), max_inflight=4),
    )
    fill(made, 4)
    of = Degrading(made)
    assert chosen(of, variants=(SMALL, TINY)) == SMALL
    fill(made, 4, SMALL)
    assert chosen(of, variants=(SMALL, TINY)) == TINY
    fill(made, 4, TINY)
    assert chosen(of, variants=(SMALL, TINY)) is None, "all are full: it waits for the model that was asked for"


def test_a_long_prompt_alone_strains_nothing() -> None:
    made = two()
    of = Degrading(made)
    for _ in range(20):
        assert of.choose(ask(model=BIG, prompt_tokens=50), Smaller(BIG, (SMALL,), 2.0), 1.0) is None
    assert of.choose(ask(model=BIG, prompt_tokens=200_000), Smaller(BIG, (SMALL,), 2.0), 1.0) is None


def test_a_conversation_stays_where_its_beginning_is_known_unless_that_is_later() -> None:
    made = two()
    blocks = tuple(range(1, 200))
    talk = {"model": BIG, "prompt_tokens": 12_000, "prefix_blocks": blocks, "tokens_per_block": 60.0}
    Driver(made).serve(0.5, ttft_s=3.0, **talk)
    of = Degrading(made)
    fill(made, 3)
    other = of.choose(ask(model=BIG, prompt_tokens=12_000), Smaller(BIG, (SMALL,), 0.5), 1.0)
    assert other is not None
    known = of.choose(ask(**talk), Smaller(BIG, (SMALL,), other.own_s - 0.01), 1.0)
    assert known is None, "the model keeps the target for a prompt whose beginning it knows"
    fill(made, 1)
    gone = of.choose(ask(**talk), Smaller(BIG, (SMALL,), 0.5), 1.0)
    assert gone is not None, "every place is taken: waiting costs more than to compute the beginning again"


def test_a_strained_model_that_has_room_answers_itself() -> None:
    """So that its backends are not idle until the strain is over."""
    made = two()
    of = Degrading(made)
    fill(made, 4)
    assert chosen(of) == SMALL
    for lease in list(made.leases):
        made.end(lease, Outcome.OK, 2.0)
    room_s = PARAMS.degrade_room_ratio * 30.0
    assert chosen(of, now_s=2.0, target_s=30.0) is None
    assert of.strained(2.0) == {BIG: 1.0}, "it is strained until it has been calm for a while"
    fill(made, 3)
    found = of.choose(ask(model=BIG), Smaller(BIG, (SMALL,), 0.5), 3.0)
    assert found is not None
    assert found.own_s > PARAMS.degrade_room_ratio * 0.5
    assert room_s > found.predicted_s


def test_a_dry_run_changes_nothing() -> None:
    made = two()
    fill(made, 4)
    of = Degrading(made)
    assert of.choose(ask(model=BIG), Smaller(BIG, (SMALL,), 1.0), 1.0, dry_run=True) is not None
    assert (of.counts, of.strained(1.0)) == ({}, {})


def test_what_begins_and_ends_is_told_once_with_the_reason() -> None:
    made = two()
    of = Degrading(made)
    assert of.take_swings(1.0) == []
    fill(made, 4)
    american = ask(model=BIG, residency=frozenset({"us"}))
    assert of.choose(ask(model=BIG), Smaller(BIG, (SMALL,), 1.0), 1.0) is not None
    assert of.choose(american, Smaller(BIG, (SMALL,), 1.0), 1.0) is not None
    anywhere, in_us = of.take_swings(1.0)
    assert (anywhere.places.model, anywhere.places.words, anywhere.strained) == (BIG, "", True)
    assert anywhere.why == "every backend of it is full, and 1 s is the target"
    assert in_us.places.words == "for requests that may only go to us"
    assert of.take_swings(2.0) == []
    east, small = made.backends["us-east/a"], made.backends["us-east/s"]
    assert (of.strained(2.0, east), of.strained(2.0, small)) == ({BIG: 1.0}, {})
    ended = of.take_swings(1.0 + HOLD_S)
    assert [(t.places.residency, t.strained) for t in ended] == [(None, False), (frozenset({"us"}), False)]
    assert ended[0].why == "nobody has asked for it for 10 s; 1 request got a smaller variant"
    assert of.take_swings(2.0 + HOLD_S) == []


def test_what_has_been_calm_is_told_to_have_been() -> None:
    made = two()
    of = Degrading(made)
    fill(made, 4)
    assert chosen(of) == SMALL
    (began,) = of.take_swings(1.0)
    for lease in list(made.leases):
        made.end(lease, Outcome.OK, 2.0)
    for n in range(14):
        chosen(of, now_s=2.0 + n, target_s=30.0)
    (ended,) = of.take_swings(16.0)
    assert (began.strained, ended.strained) == (True, False)
    assert ended.why.startswith("predicted below 70% of the target of 30 s for 10 s; ")


def test_it_ends_when_all_has_been_calm_for_a_while() -> None:
    strain = Strain(PARAMS)
    assert not strain.look(1.0, 1.0, 0.0)
    assert strain.look(1.1, 1.0, 0.0)
    assert strain.look(0.1, 1.0, 1.0), "calm, but not for long"
    assert strain.look(0.8, 1.0, HOLD_S), "nearly at the target"
    assert strain.look(0.1, 1.0, HOLD_S + 5.0)
    assert not strain.look(0.1, 1.0, 2 * HOLD_S + 5.0)
    assert strain.look(2.0, 1.0, 2 * HOLD_S + 6.0), "and again, too soon"
    for n in range(1, 20):
        assert strain.look(0.1, 1.0, 2 * HOLD_S + 6.0 + n), "it has to be calm for twice as long"
    assert not strain.look(0.1, 1.0, 4 * HOLD_S + 8.0)


def test_when_nobody_asks_it_is_over() -> None:
    strain = Strain(PARAMS)
    strain.look(2.0, 1.0, 0.0)
    assert strain.stands(HOLD_S - 1.0)
    assert not strain.stands(HOLD_S)
    assert not strain.look(0.9, 1.0, HOLD_S)


@given(
    steps=st.lists(st.tuples(st.floats(0.01, 2 * HOLD_S), st.floats(0.0, 2.0) | st.just(inf)), min_size=1, max_size=200)
)
def test_it_never_flaps(steps: list[tuple[float, float]]) -> None:
    """It begins only above the target, ends only after it was calm or unasked for a hold, and each soon return doubles
    the hold."""
    strain, now_s = Strain(PARAMS), 0.0
    was, loud_s, looked_s, began_s = False, -inf, -inf, -inf
    for step_s, predicted_s in steps:
        now_s += step_s
        on = strain.look(predicted_s, 1.0, now_s)
        if on and not was:
            assert predicted_s > 1.0
            began_s = now_s
        if was and not on:
            assert predicted_s <= 1.0
            assert now_s - loud_s >= HOLD_S or now_s - looked_s >= HOLD_S
            assert now_s - began_s >= HOLD_S
        if predicted_s > PARAMS.degrade_back_ratio:
            loud_s = now_s
        was, looked_s = on, now_s


@given(load=st.floats(0.0, 3.0), times=st.integers(2, 100))
def test_the_same_load_changes_its_mind_once_at_most(load: float, times: int) -> None:
    strain = Strain(PARAMS)
    seen = [strain.look(load, 1.0, n * 1.0) for n in range(times)]
    assert sum(a is not b for a, b in pairwise(seen)) == 0
