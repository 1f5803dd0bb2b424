"""Slots: used while they are leased for certain, renewed while they are in use, released when they may be somebody else's."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from router.store.slots import MARGIN, Slots

LEASE_S = 15.0


def slots(now_s: float = 0.0) -> Slots:
    serial = itertools.count()
    return Slots(lambda: f"s{next(serial)}", now_s)


def test_an_idle_slot_is_used_again_until_its_lease_is_over() -> None:
    mine = slots()
    first, new = mine.pop(0.0)
    assert new
    mine.leased([first], LEASE_S)
    mine.back(first)
    assert mine.pop(LEASE_S - 0.01) == (first, False)
    mine.back(first)
    second, new = mine.pop(LEASE_S)
    assert new
    assert second != first
    assert mine.doomed == [first]
    assert mine.held == {}


def test_a_renewal_that_came_extends_and_one_that_did_not_does_not() -> None:
    mine = slots()
    names = mine.offer(2)
    mine.leased(names, LEASE_S)
    mine.idle = [names[0]]
    assert set(mine.due(5.0, LEASE_S)) == set(names)
    assert mine.due(5.1, LEASE_S) == ()
    mine.renewed([names[1]], 5.0 + LEASE_S)
    assert not mine.ready(LEASE_S)
    mine.back(names[1])
    assert mine.ready(LEASE_S)


def test_a_slot_in_use_is_renewed_however_late_and_an_idle_one_only_in_time() -> None:
    mine = slots()
    names = mine.offer(2)
    mine.leased(names, LEASE_S)
    mine.idle = [names[0]]
    late_s = LEASE_S * (1 - MARGIN) + 0.1
    assert mine.due(late_s, LEASE_S) == (names[1],)
    assert mine.doomed == [names[0]]
    assert mine.due(100.0, LEASE_S) == (names[1],)


def test_slots_whose_fate_is_unknown_are_told_apart_and_once() -> None:
    """The store may never have had them: they free no place of another that it has lost."""
    mine = slots()
    mine.lost(mine.offer(3))
    mine.leased(names := mine.offer(1), LEASE_S)
    mine.back(names[0])
    mine.give_up(0.0, keep=0)
    assert mine.any_over
    assert mine.over() == (names, ("s0", "s1", "s2"))
    assert not mine.any_over
    assert mine.over() == ((), ())


def test_a_slot_that_the_store_has_not_heard_of_is_not_used_again() -> None:
    mine = slots()
    name, _ = mine.pop(0.0)
    mine.leased([name], 0.0)
    assert (mine.used, mine.unknown) == (1, 1)
    mine.back(name)
    assert not mine.ready(0.5)


@given(st.lists(st.tuples(st.sampled_from(["pop", "back", "give up", "renew", "grant"]), st.floats(0, 8)), max_size=40))
def test_no_slot_is_ever_in_two_places(steps: list[tuple[str, float]]) -> None:
    mine, now_s, inuse = slots(), 0.0, list[str]()
    for step, for_s in steps:
        now_s += for_s
        if step == "pop":
            name, new = mine.pop(now_s)
            assert name not in inuse
            assert new or mine.held[name] > now_s
            mine.leased([name] if new else [], now_s + LEASE_S)
            inuse.append(name)
        elif step == "back" and inuse:
            mine.back(inuse.pop(0))
        elif step == "give up":
            mine.give_up(now_s, 1)
        elif step == "renew":
            mine.renewed(mine.due(now_s, LEASE_S), now_s + LEASE_S)
        elif step == "grant":
            names = mine.offer(2)
            mine.leased(names, now_s + LEASE_S)
            mine.idle += names
        assert len(set(mine.idle)) == len(mine.idle)
        assert set(mine.idle) | set(inuse) == set(mine.held)
        assert not set(mine.doomed) & set(mine.held)
        assert mine.used == len(inuse)


@given(st.permutations(range(4)))
def test_answers_that_overtake_each_other_shorten_no_lease(order: list[int]) -> None:
    """The store has a slot for as long as the latest of its commands said."""
    slots = Slots(lambda: "new", 0.0)
    slots.leased(["a", "b"], 15.0)
    for sent_s in order:
        slots.renewed(["a", "gone"], 15.0 + sent_s)
    assert slots.held == {"a": 18.0, "b": 15.0}
