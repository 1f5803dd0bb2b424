"""The guard's count of instructions is a property of the code: two runs come to the same figures, to the digit."""

from __future__ import annotations

from bench.guard import instructions
from bench.guard.rig import SCENARIOS


def test_two_runs_count_the_same() -> None:
    first, second = instructions.counted("0.02"), instructions.counted("0.02")
    assert first == second
    assert set(first) == {scenario.name for scenario in SCENARIOS}
    for count in first.values():
        assert any(name.startswith("wire/outbound.py:") for name in count.by_function)
