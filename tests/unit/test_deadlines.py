"""One sweep over those who wait: who is ended, and how seldom anybody is looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.gateway.deadlines import Deadlines


class Waiter:
    def __init__(self, due_s: float) -> None:
        self.due_s = due_s
        self.is_set = False
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1
        self.is_set = True


class Crowd:
    """Counts how often it is looked at."""

    def __init__(self, *waiters: Waiter | None) -> None:
        self.waiters = list(waiters)
        self.looks = 0

    def __call__(self) -> list[Waiter | None]:
        self.looks += 1
        return self.waiters


def test_nobody_is_looked_at_before_somebody_is_due() -> None:
    deadlines, crowd = Deadlines(), Crowd(Waiter(5.0), None)
    deadlines.note(5.0)
    for now_s in (1.0, 2.0, 4.9):
        deadlines.sweep(now_s, crowd)
    assert crowd.looks == 0
    assert deadlines.coarse_now_s == 4.9


def test_a_sweep_that_comes_late_judges_nobody_before_what_has_come_is_read() -> None:
    spoke, silent = Waiter(5.0), Waiter(5.5)
    deadlines, crowd = Deadlines(), Crowd(spoke, silent)
    deadlines.note(5.0)
    deadlines.sweep(4.9, crowd)
    deadlines.sweep(9.0, crowd)  # the process was starved for four seconds
    assert (spoke.expired, silent.expired, crowd.looks) == (0, 0, 0)
    spoke.due_s = 14.0  # its token lay in the socket
    deadlines.sweep(9.9, crowd)  # late again: it cannot go on for ever
    assert (spoke.expired, silent.expired) == (0, 1)


def test_those_whose_patience_is_over_are_ended_once() -> None:
    early, late = Waiter(5.0), Waiter(9.0)
    deadlines, crowd = Deadlines(), Crowd(early, late)
    deadlines.note(5.0)
    for now_s in (5.0, 5.1, 8.9):
        deadlines.sweep(now_s, crowd)
    assert (early.expired, late.expired, crowd.looks) == (1, 0, 1)
    deadlines.sweep(9.0, crowd)
    assert (early.expired, late.expired) == (1, 1)


def test_who_has_made_progress_is_looked_at_again_when_due() -> None:
    waiter = Waiter(5.0)
    deadlines, crowd = Deadlines(), Crowd(waiter)
    deadlines.note(5.0)
    waiter.due_s = 65.0  # a token came meanwhile
    deadlines.sweep(5.0, crowd)
    deadlines.sweep(64.0, crowd)
    assert (waiter.expired, crowd.looks) == (0, 1)
    deadlines.sweep(65.0, crowd)
    assert waiter.expired == 1


@given(st.lists(st.floats(0.0, 50.0), max_size=8), st.lists(st.floats(0.0, 60.0), max_size=12))
def test_nobody_is_ended_early_or_forgotten(dues_s: list[float], sweeps_s: list[float]) -> None:
    waiters = [Waiter(due_s) for due_s in dues_s]
    deadlines, crowd = Deadlines(), Crowd(*waiters)
    for due_s in dues_s:
        deadlines.note(due_s)
    for now_s in sorted(sweeps_s):
        for _ in range(2):  # the first may be late
            deadlines.sweep(now_s, crowd)
        assert all((w.expired == 1) is (w.due_s <= now_s) for w in waiters)
