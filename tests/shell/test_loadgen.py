"""sim/loadgen.py: what is asked, what is counted, and from when."""

from __future__ import annotations

import asyncio
import random

import pytest

from sim.loadgen import Load, Shot, _error_of, _moments, quantiles, run
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
