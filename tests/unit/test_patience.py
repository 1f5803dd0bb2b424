"""How long the store is waited for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.store.patience import ANSWER_S_MAX, WINDOW_S, Patience

trips = st.lists(st.floats(0.0, 3.0), max_size=60)


@given(trips, st.floats(0.01, 2.0), st.integers(0, 10))
def test_it_stays_within_its_bounds(seen: list[float], wait_s: float, misses: int) -> None:
    patience = Patience(wait_s)
    for i, trip_s in enumerate(seen):
        patience.answered(trip_s, 0.1 * i)
    for _ in range(misses):
        patience.missed()
    assert wait_s <= patience.request_s <= patience.answer_s <= max(ANSWER_S_MAX, wait_s)
    assert patience.request_s <= max(wait_s, 2 * patience.distance_s), "a busy process makes no store far"
    assert patience.answer_s <= patience.give_up_s
    assert not seen or patience.distance_s <= min(seen)


@given(st.floats(0.001, 0.4), st.floats(0.0, 0.5), st.lists(st.floats(-1.0, 1.0), min_size=20, max_size=200))
def test_a_store_with_jitter_is_seldom_late_and_never_twice(rtt_s: float, jitter: float, rolls: list[float]) -> None:
    patience, late = Patience(), 0
    for i, roll in enumerate(rolls):
        trip_s = rtt_s * (1 + jitter * roll)
        late = late + 1 if trip_s > patience.answer_s else 0
        assert late < 2, "two in a row would say that it is away"
        if late:
            patience.missed()
        patience.answered(trip_s, i * 0.1)


@given(st.floats(0.0, 1.0))
def test_a_steady_store_is_waited_for_as_long_as_it_takes(rtt_s: float) -> None:
    patience = Patience()
    for i in range(200):
        patience.answered(rtt_s, i)
    assert abs(patience.trip_s - rtt_s) < 1e-3
    assert patience.distance_s == rtt_s


def test_silence_makes_it_patient_and_an_answer_ends_that() -> None:
    patience = Patience(0.1)
    for i in range(50):
        patience.answered(0.001, i)
    assert patience.answer_s == 0.1
    patience.missed()
    assert patience.answer_s == 0.2
    patience.answered(0.001, 51)
    assert patience.answer_s == 0.1


def test_the_distance_follows_a_store_that_moved_away() -> None:
    patience = Patience()
    patience.answered(0.001, 0.0)
    for i in range(10):
        patience.answered(0.2, i)
    assert patience.distance_s == 0.001
    patience.answered(0.2, WINDOW_S + 1)
    patience.answered(0.2, 2 * WINDOW_S + 2)
    assert patience.distance_s == 0.2
