"""router bench: what it prints. What it measures is tested with the load itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

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


def test_a_model_that_the_endpoint_does_not_have_is_named(play: Play, shots: list[Shot]) -> None:
    shots[:] = [Shot(status=404, error="404 unknown_model", duration_s=0.1)]
    play.api.answers = {("GET", "/v1/models"): {"data": [{"id": "llama"}]}}
    with pytest.raises(CliError, match='there is no model "llame", did you mean "llama"') as caught:
        bench.run_bench(play.context, options(model="llame"))
    assert caught.value.code is Exit.USAGE
    with pytest.raises(CliError, match="no request succeeded"):
        bench.run_bench(play.context, options(model="llama"))


def test_what_was_measured_before_ctrl_c_is_shown(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run(url: str, key: str | None, load: Load, *, stop: asyncio.Event, **_: object) -> Result:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(stop.wait(), 30)
        return Result(load, 2.0, [GOOD, BAD], unfinished=3)

    monkeypatch.setattr(loadgen, "run", run)
    assert bench.run_bench(play.context, options()) == 130
    for part in ("2 requests in 2.00 s", "1 failed", "interrupted, 3 unfinished requests not counted"):
        assert part in play.out, part
    play.stdout.truncate(0)
    play.stdout.seek(0)
    assert bench.run_bench(play.context, options(as_json=True)) == 130
    document = json.loads(play.out)
    assert (document["interrupted"], document["unfinished"], document["requests"]) == (True, 3, 2)


def test_a_seed_is_drawn_each_time_and_told(play: Play, shots: list[Shot]) -> None:
    seeds = set()
    for _ in range(3):
        play.stdout.truncate(0)
        play.stdout.seek(0)
        bench.run_bench(play.context, options(as_json=True))
        seeds.add(json.loads(play.out)["seed"])
    assert len(seeds) == 3
    bench.run_bench(play.context, options(load={"requests": 4, "seed": 7}))
    assert "seed 7" in play.out


def test_errors_are_no_bar_among_regions(play: Play, shots: list[Shot]) -> None:
    bench.run_bench(play.context, options())
    lines = play.out.splitlines()
    (told,) = [line for line in lines if "quota_exhausted" in line]
    assert told == "1 failed: 429 quota_exhausted"
    (region,) = [line for line in lines if line.startswith("us-east")]
    assert "█" * 24 in region, "all that was answered was answered there"


def test_the_cached_share_is_told_where_engines_tell_it(play: Play, shots: list[Shot]) -> None:
    bench.run_bench(play.context, options())
    assert "cached" not in play.out
    shots[:] = [Shot(200, region="us-east", ttft_s=0.1, duration_s=0.2, prompt_tokens=100, cached_tokens=40)] * 2
    bench.run_bench(play.context, options())
    assert "40 % of 200 prompt tokens cached" in play.out


def test_a_trace_brings_its_own_end(play: Play, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    loads: list[Load] = []

    async def run(url: str, key: str | None, load: Load, **_: object) -> Result:
        loads.append(load)
        return Result(load, 2.0, [GOOD])

    monkeypatch.setattr(loadgen, "run", run)
    file = tmp_path / "a.jsonl"
    rows = [{"timestamp": 4000 * n, "input_length": 9, "output_length": 2, "hash_ids": []} for n in range(3)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench.run_bench(play.context, options(load={}, trace=str(file), scale=2.0))
    assert (len(loads[0].trace.arrivals), loads[0].duration_s) == (3, 4.0)  # type: ignore[union-attr]
    assert "trace a" in play.out
    for load, trace in (({"rate": 1.0}, str(file)), ({}, str(tmp_path / "none"))):
        with pytest.raises(CliError) as caught:
            bench.run_bench(play.context, options(load=load, trace=trace))
        assert caught.value.code is Exit.USAGE
