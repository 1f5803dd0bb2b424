"""A fault that lasts is told when it changes, then ever more rarely."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.complaint import Complaint


def lines_of(complaint: Complaint, texts: list[str], step_s: float = 1.0) -> list[tuple[float, str]]:
    """What is told when these faults are seen one after the other; an empty text is no fault."""
    told = []
    for step, text in enumerate(texts):
        now_s = step * step_s
        if not text:
            complaint.settled()
        elif complaint.worth_a_line(text, now_s):
            told.append((now_s, text))
    return told


def test_a_lasting_fault_is_told_again_after_a_minute_then_twice_as_long() -> None:
    told = lines_of(Complaint(), ["401"] * 1000)
    assert [at_s for at_s, _ in told] == [0, 60, 180, 420, 900]


def test_another_fault_is_told_at_once() -> None:
    assert lines_of(Complaint(), ["401", "401", "empty", "empty"]) == [(0, "401"), (2, "empty")]


def test_the_end_of_a_fault_is_worth_one_line() -> None:
    complaint = Complaint()
    assert not complaint.settled()
    assert complaint.worth_a_line("401", 0.0)
    assert complaint.settled()
    assert not complaint.settled()


@given(st.binary(min_size=600, max_size=600))
def test_a_fault_that_comes_and_goes_floods_no_log(seen: bytes) -> None:
    texts = [("", "refused", "timeout", "500")[byte % 4] for byte in seen]
    assert len(lines_of(Complaint(), texts)) <= 3 * 4, "ten minutes, three faults"


def test_a_fault_that_was_gone_for_hours_is_new() -> None:
    complaint = Complaint()
    lines_of(complaint, ["401"] * 1000)
    assert complaint.worth_a_line("401", 20_000.0)
    assert not complaint.worth_a_line("401", 20_059.0)
    assert complaint.worth_a_line("401", 20_061.0)
