"""router bench: what it prints. What it measures is tested with the load itself."""

from __future__ import annotations

import json

import pytest

from cli.commands import bench
from cli.errors import CliError, Exit
from sim import loadgen
from sim.loadgen import Load, Result, Shot
from tests.cli.conftest import Play

GOOD = Shot(status=200, region="us-east", ttft_s=0.1, duration_s=0.5, output_tokens=5)
BAD = Shot(status=429, error="429 quota_exhausted", duration_s=0.1)


def options(**changes: object) -> bench.BenchOptions:
    asked = {"url": None, "key": None, "model": "m", "load": {"requests": 4}, "as_json": False}
    return bench.BenchOptions(**(asked | changes))  # type: ignore[arg-type]


@pytest.fixture
def shots(monkeypatch: pytest.MonkeyPatch) -> list[Shot]:
    """What the load brings, instead of a load."""
    made = [GOOD, GOOD, GOOD, BAD]

    async def run(url: str, key: str | None, load: Load, **_: object) -> Result:
        return Result(load, 2.0, made)

    monkeypatch.setattr(loadgen, "run", run)
    return made


def test_figures_for_people(play: Play, shots: list[Shot]) -> None:
    assert bench.run_bench(play.context, options()) is Exit.OK
    for part in ("4 requests in 2.00 s", "1 failed", "1.5 requests/s", "7.5 tokens/s", "first token", "us-east"):
        assert part in play.out, part
    assert "429 quota_exhausted" in play.out


def test_figures_for_programs(play: Play, shots: list[Shot]) -> None:
    assert bench.run_bench(play.context, options(as_json=True)) is Exit.OK
    document = json.loads(play.out)
    assert (document["model"], document["requests"], document["failed"]) == ("m", 4, 1)
    assert document["ttft_s"] == {"p50": 0.1, "p90": 0.1, "p99": 0.1}
    assert document["itl_s"]["p50"] == pytest.approx(0.1)
    assert document["regions"] == {"us-east": 3}


def test_if_nothing_succeeds_it_fails(play: Play, shots: list[Shot]) -> None:
    shots[:] = [BAD, BAD]
    with pytest.raises(CliError) as caught:
        bench.run_bench(play.context, options())
    assert caught.value.details == ("2 × 429 quota_exhausted",)
    assert bench.run_bench(play.context, options(as_json=True)) is Exit.FAILED
