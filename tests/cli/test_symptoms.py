"""One line of what the doctor says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cli.doctor.symptoms import FAIL, OK, WARN, Symptom, clock, good


def test_a_symptom_as_a_document() -> None:
    assert good("file", "r.toml", "valid").document() == {
        "area": "file",
        "what": "r.toml",
        "state": "ok",
        "text": "valid",
        "advice": None,
    }
    assert Symptom("a", "b", WARN, "c", "d").document()["advice"] == "d"


@given(st.floats(-1e6, 1e6))
def test_a_clock_is_judged_alike_in_both_directions(skew_s: float) -> None:
    found = clock("store", skew_s, warn_s=1.0, fail_s=30.0, advice="NTP")
    assert found.state == (OK if abs(skew_s) < 1 else WARN if abs(skew_s) < 30 else FAIL)
    assert found.state == clock("store", -skew_s, warn_s=1.0, fail_s=30.0, advice="NTP").state
    assert bool(found.advice) == (found.state != OK)
    if found.state != OK:
        assert ("ahead of" in found.text) == (skew_s > 0)
