"""The comparison of docs/capacity.md: what it prints, and that it plays a recorded trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.scaling.__main__ import Row, main, text

MOONCAKE = Path(__file__).parents[1] / "data" / "traces" / "mooncake_synthetic_sample.jsonl"


def row(rule: str, value: float, gpu_hours: float, p95_s: float, failed: int = 0) -> Row:
    return Row(rule, f"{rule} {value:g}", gpu_hours, 4, p95_s, failed)


def test_rules_are_compared_at_equal_first_tokens() -> None:
    ours = row("needed", 1.0, 1.0, 0.9)
    busy = [row("busy", 0.9, 0.5, 1.1), row("busy", 0.8, 1.5, 1.0), row("busy", 0.7, 2.0, 0.5)]
    waiting = [row("waiting", 1.0, 0.7, 0.5, failed=3), row("waiting", 0.5, 1.2, 9.0)]
    lines = text([ours, *busy, *waiting], 1.0).splitlines()
    assert lines[-2] == "busy: 1.50 times the GPU hours at p95 1.00 s"
    assert lines[-1] == "waiting: no setting comes to 1.00 s"


def test_it_plays_a_recorded_trace(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(MOONCAKE), "--profile", "h100-llama-3.1-8b", "--requests", "200", "--backends", "4"]
    assert main([*arguments, "--target", "4", "--cold-start", "10", "--rules", "needed"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("mooncake_synthetic_sample: 200 requests in 1 min")
    name, goal, gpu_hours, most, p95_s, failed = told[2].split()
    assert (name, goal, failed) == ("needed", "4", "0")
    assert 0.0 < float(gpu_hours) < 4 * 60 / 3600
    assert 1 <= int(most) <= 4
    assert float(p95_s) > 0.0
