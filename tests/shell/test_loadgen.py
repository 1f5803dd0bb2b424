"""sim/loadgen.py: what is asked, what is counted, and from when."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.loadgen import Load, Shot, _error_of, _moments, histogram, quantiles, run
from sim.traces import Arrival, Trace
from tests.support.backends import Call, ScriptedBackend, whole

QUICK = Load("m", prompt_tokens=20, max_tokens=4, concurrency=3, duration_s=60, requests=9)


async def test_a_closed_loop_asks_again_when_it_has_its_answer() -> None:
    running = most = 0

    async def slow(call: Call) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1
        await call.stream("one", "two", gap_s=0.01)

    heard: list[Shot] = []
    async with ScriptedBackend(slow) as b:
        result = await run(b.url, "secret", QUICK, done=heard.append)
    document = result.document()
    assert (document["requests"], document["failed"], len(b.calls), len(heard)) == (9, 0, 9, 9)
    assert most == 3
    assert all(b"authorization: Bearer secret" in call.head for call in b.calls)
    assert len({call.body for call in b.calls}) == 9, "no two prompts are alike"
    assert [s.output_tokens for s in heard] == [3] * 9  # two texts and the end: nobody reported
    assert document["ttft_s"]["p50"] >= 0.02
    assert document["itl_s"]["p50"] > 0.004
    assert document["e2e_s"]["p99"] >= document["e2e_s"]["p50"] > document["ttft_s"]["p50"]


async def test_in_an_open_loop_a_request_counts_from_when_it_was_meant_to_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An endpoint that serves one at a time is not asked more slowly for it: those that wait say so."""
    monkeypatch.setattr("sim.loadgen.INFLIGHT_MAX", 1)

    async def slow(call: Call) -> None:
        await asyncio.sleep(0.05)
        await call.stream("x")

    async with ScriptedBackend(slow) as b:
        load = Load("m", rate=200.0, requests=10, duration_s=60, max_tokens=4)
        document = (await run(b.url, None, load)).document()
    assert document["requests"] == 10
    assert document["ttft_s"]["p99"] > 0.4, "the last one waited for nine others"


async def test_failures_are_told_apart() -> None:
    answers = iter(("429", "500", "cut", "ok"))

    async def moody(call: Call) -> None:
        match next(answers):
            case "429":
                await call.send(whole(429, {"error": {"message": "no", "code": "quota_exhausted"}}))
            case "500":
                await call.send(whole(500, b"oops"))
            case "cut":
                await call.stream("one", finish=False)
                await call.send(b"0\r\n\r\n")
            case _:
                await call.stream("one")

    async with ScriptedBackend(moody) as b:
        document = (await run(b.url, None, Load("m", concurrency=1, requests=4, duration_s=60))).document()
    assert document["errors"] == {"429 quota_exhausted": 1, "500": 1, "stream_interrupted": 1}
    assert (document["requests"], document["failed"]) == (4, 3)
    nobody = (await run("http://127.0.0.1:1", None, Load("m", concurrency=1, requests=2, duration_s=60))).document()
    assert nobody["errors"] == {"unreachable": 2}
    assert nobody["ttft_s"] == {"p50": None, "p90": None, "p99": None}


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantiles(range(1, 101)) == {"p50": 50, "p90": 90, "p99": 99}
    assert quantiles([3.0, None, 1.0]) == {"p50": 1.0, "p90": 3.0, "p99": 3.0}


def test_moments_come_at_the_rate_that_was_asked_for() -> None:
    moments = _moments(random.Random(1), 50.0, 10.0, 110.0, None)
    assert moments == sorted(moments)
    assert 10.0 < moments[0] < moments[-1] < 110.0
    assert 4700 < len(moments) < 5300
    assert len(_moments(random.Random(1), 50.0, 0.0, 100.0, 7)) == 7


@pytest.mark.parametrize(
    ("body", "told"),
    [(b'{"error":{"code":"x"}}', "400 x"), (b'{"error":{"code":400}}', "400"), (b"[]", "400"), (b"\xff", "400")],
)
def test_the_code_of_an_error(body: bytes, told: str) -> None:
    assert _error_of(400, body) == told


async def test_a_run_that_is_stopped_has_what_was_answered_by_then() -> None:
    stop, answers = asyncio.Event(), iter(range(100))

    async def some(call: Call) -> None:
        if next(answers) < 4:
            await call.stream("one", "two")
        else:
            stop.set()
            await asyncio.sleep(60)

    async with ScriptedBackend(some) as b:
        result = await asyncio.wait_for(run(b.url, None, Load("m", concurrency=2, duration_s=60), stop=stop), 30)
    document = result.document()
    assert (document["requests"], document["failed"], document["interrupted"]) == (4, 0, True)
    assert 1 <= document["unfinished"] <= 2


async def test_another_seed_asks_other_things() -> None:
    asked: list[bytes] = []

    async def listen(call: Call) -> None:
        asked.append(call.body)
        await call.stream("x")

    async with ScriptedBackend(listen) as b:
        for seed in (1, 1, 2):
            await run(b.url, None, Load("m", concurrency=1, requests=1, duration_s=60, seed=seed))
    assert asked[0] == asked[1] != asked[2]


async def test_a_trace_says_when_and_what_and_which_beginnings_are_shared() -> None:
    asked: list[tuple[int, list[str]]] = []
    arrivals = (
        Arrival(0.0, 30, 5, blocks=(1, 2)),
        Arrival(0.01, 20, 6, blocks=(1,)),
        Arrival(0.02, 30, 7, blocks=(1, 3)),
        Arrival(9.0, 30, 7),
    )

    async def listen(call: Call) -> None:
        document = json.loads(call.body)
        asked.append((document["max_tokens"], document["messages"][0]["content"].split()))
        await call.stream("x")

    async with ScriptedBackend(listen) as b:
        load = Load("m", duration_s=1.0, trace=Trace("t", arrivals, block_tokens=10))
        document = (await run(b.url, None, load)).document()
    assert document["trace"] == "t"
    assert document["requests"] == 3, "the fourth comes after the end"
    asked.sort(key=lambda each: each[0])
    assert [(most, len(words)) for most, words in asked] == [(5, 30), (6, 20), (7, 30)]
    one, two, three = (words for _, words in asked)
    assert one[:10] == two[:10] == three[:10]
    assert one[10:20] != three[10:20]


@given(st.lists(st.floats(1e-4, 900.0), min_size=1, max_size=60))
def test_a_histogram_counts_each_value_once_in_few_rows(values: list[float]) -> None:
    rows = histogram(values)
    edges = [row["le_s"] for row in rows]
    assert sum(row["requests"] for row in rows) == len(values)
    assert edges == sorted(set(edges))
    assert 1 <= len(rows) <= 25
    assert rows[0]["requests"] > 0
    assert rows[-1]["requests"] > 0
    for above, row in zip([0.0, *edges], rows, strict=False):
        assert row["requests"] == sum(above < value <= row["le_s"] for value in values)


def test_a_histogram_has_round_edges() -> None:
    assert [row["le_s"] for row in histogram([0.1, 0.14, 0.19])] == pytest.approx([0.1 + 0.01 * n for n in range(10)])
    assert [row["le_s"] for row in histogram([0.001, 0.7])] == [
        0.001,
        0.002,
        0.005,
        0.01,
        0.02,
        0.05,
        0.1,
        0.2,
        0.5,
        1.0,
    ]
    assert histogram([]) == []
