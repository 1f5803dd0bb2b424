"""Each fault of the simulated engine does what it says, to the byte and in time."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import replace

import pytest

from sim.faults import KINDS
from tests.support.sim_engine import MODEL, QUICK, Answer, engine, read_answer, until
from tests.support.stopwatch import Stopwatch

LONG = {"model": MODEL, "prompt": "x", "max_tokens": 5000, "stream": True}


@pytest.fixture(autouse=True)
def _no_server_errors(caplog: pytest.LogCaptureFixture) -> object:
    """A fault is no accident: the server itself never complains."""
    yield
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_unknown_faults_and_parameters_are_refused_with_the_list_of_kinds() -> None:
    async with engine() as client:
        for body in ({"kind": "nope"}, {"kind": "slow", "speed": 2}, {"kind": "refuse"}, {"kind": "freeze"}, {}):
            answer = await client.ask("POST", "/sim/faults", body)
            assert answer.status == 400
            assert set(answer.json["kinds"]) == set(KINDS)
        assert (await client.ask("POST", "/sim/faults", b"{")).status == 400


@pytest.mark.parametrize(("kind", "status"), [("vllm", 500), ("sglang", 503), ("llamacpp", 429)])
async def test_error_status_in_the_engines_own_words(kind: str, status: int) -> None:
    async with engine(kind) as client:
        await client.fault("error_status", status=status, retry_after_s=7, count=1)
        answer = await client.chat(stream=True)
        assert answer.status == status
        assert answer.headers["retry-after"] == "7"
        body = answer.json
        assert (body["code"] if kind == "sglang" else body["error"]["code"]) == status
        assert (await client.chat(stream=True)).status == 200  # it was to happen once


async def test_probability_and_duration() -> None:
    async with engine() as client:
        await client.fault("error_status", probability=0.5, for_s=0.6)
        statuses = [(await client.chat(max_tokens=1)).status for _ in range(40)]
        assert {200, 500} == set(statuses)
        await until(lambda: not client.server.faults.active(client.server.now_s()))
        assert {(await client.chat(max_tokens=1)).status for _ in range(10)} == {200}


async def test_an_error_inside_a_200_stream_followed_by_done() -> None:
    async with engine() as client:
        await client.fault("in_band_error", status=503, message="later", count=1)
        answer = await client.chat(stream=True)
        assert (answer.status, answer.done, answer.end) == (200, True, "complete")
        assert answer.events == [
            {"error": {"message": "later", "type": "InternalServerError", "param": None, "code": 503}}
        ]


async def test_stall_before_the_first_token_comes_after_the_headers_on_vllm() -> None:
    async with engine() as client:
        await client.fault("stall_before_first_token", stall_s=0.4, count=1)
        started_s, watch = time.monotonic(), Stopwatch()
        reader, writer = await client.send("POST", "/v1/completions", LONG | {"max_tokens": 5})
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert watch.elapsed_s < 0.2
        await reader.readuntil(b"data: ")
        assert time.monotonic() - started_s >= 0.35
        assert watch.elapsed_s <= 0.7
        writer.close()


async def test_stall_after_tokens() -> None:
    async with engine() as client:
        await client.fault("stall_after_tokens", tokens=3, stall_s=0.4)
        answer = await client.complete(stream=True)
        gaps = [b - a for a, b in zip(answer.at_s, answer.at_s[1:], strict=False)]
        assert gaps.index(max(gaps)) == 2
        assert 0.35 <= max(gaps) <= 0.7
        assert answer.done


async def test_a_client_can_leave_during_a_stall() -> None:
    async with engine() as client:
        await client.fault("stall_after_tokens", tokens=3, stall_s=30)
        reader, writer = await client.send("POST", "/v1/completions", LONG)
        await read_answer(reader, limit_events=3)
        writer.close()
        await until(lambda: client.server.live.engine.running == 0 and len(client.server.aborts) > 0)
        assert client.server.aborts[0]["reason"] == "client_gone"


async def test_drip_is_slow_but_whole() -> None:
    async with engine() as client:
        await client.fault("drip", gap_s=0.06)
        answer = await client.complete(stream=True, max_tokens=5)
        gaps = [b - a for a, b in zip(answer.at_s[:5], answer.at_s[1:5], strict=False)]
        assert min(gaps) >= 0.05
        assert answer.done


@pytest.mark.parametrize(
    ("how", "end"),
    [
        ("fin", "eof"),
        ("rst", "reset"),
        ("clean", "complete"),
        ("truncated", "eof"),
        ("error_done", "complete"),
        ("close_delimited", "eof"),
    ],
)
async def test_a_cut_stream_looks_like_its_kind_and_frees_the_engine(how: str, end: str) -> None:
    async with engine() as client:
        whole = await client.complete(stream=True, max_tokens=20)
        await client.fault("cut_after_tokens", tokens=5, how=how, count=1)
        answer = await client.complete(stream=True, max_tokens=20)
        assert (answer.status, answer.end, answer.done) == (200, end, how == "error_done")
        assert answer.headers.get("transfer-encoding") == (None if how == "close_delimited" else "chunked")
        datas = [line[6:] for line in answer.body.decode().split("\n\n") if line.startswith("data: ")]
        tokens = 0
        for data in datas:
            try:
                tokens += bool(json.loads(data).get("choices"))
            except ValueError:
                assert how in ("truncated", "error_done")  # the half event, [DONE]
        assert tokens == 5
        reasons = [c.get("finish_reason") for d in datas[:5] for c in json.loads(d)["choices"]]
        assert reasons == [None] * 5
        await until(lambda: client.server.live.engine.running == 0 and len(client.server.aborts) > 0)
        assert client.server.aborts[-1]["reason"] == "fault"
        assert (await client.complete(stream=True, max_tokens=20)).text == whole.text


async def test_a_garbage_line_does_not_end_the_stream() -> None:
    async with engine() as client:
        whole = await client.complete(stream=True)
        await client.fault("garbage_line", tokens=4, line="data: {oops")
        answer = await client.complete(stream=True)
        assert answer.lines[4] == "data: {oops"
        assert [line for line in answer.lines if line != "data: {oops"][-1] == "data: [DONE]"
        assert len(answer.lines) == len(whole.lines) + 1


async def test_a_crash_takes_the_open_streams_with_it() -> None:
    died: list[bool] = []
    async with engine(on_crash=lambda: died.append(True)) as client:
        reader, writer = await client.send("POST", "/v1/completions", LONG)
        await read_answer(reader, limit_events=2)
        await client.fault("crash", tokens=3)
        victim = await client.complete(stream=True, max_tokens=20)
        assert died == [True]
        assert victim.end in ("eof", "reset")
        other = await read_answer(reader, timeout_s=2.0)
        assert other.end in ("eof", "reset")
        assert (await client.get("/health")).end == "refused"
        writer.close()


async def test_refuse_and_come_back_on_the_same_port() -> None:
    async with engine() as client:
        reader, writer = await client.send("POST", "/v1/completions", LONG)
        await read_answer(reader, limit_events=2)
        await client.fault("refuse", for_s=0.3)
        assert (await client.get("/health")).end == "refused"
        assert len((await read_answer_more(reader, 3)).chunks) == 3  # open streams go on
        writer.close()

        async def back() -> bool:
            return (await client.get("/health")).status == 200

        await until(back)


async def read_answer_more(reader: asyncio.StreamReader, events: int, timeout_s: float = 3.0) -> Answer:
    """More chunks of a response whose head has been read."""
    fed = asyncio.StreamReader(limit=1 << 26)
    fed.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def pump() -> None:
        while data := await reader.read(65536):
            fed.feed_data(data)

    task = asyncio.get_running_loop().create_task(pump())
    try:
        return await read_answer(fed, limit_events=events, timeout_s=timeout_s)
    finally:
        task.cancel()


async def test_accept_reset() -> None:
    async with engine() as client:
        await client.fault("accept_reset", count=1)
        assert (await client.chat()).end in ("reset", "eof")
        assert (await client.chat()).status == 200


async def test_a_frozen_process_accepts_and_says_nothing_until_it_is_thawed() -> None:
    async with engine() as client:
        reader, writer = await client.send("POST", "/v1/completions", LONG | {"max_tokens": 100})
        await read_answer(reader, limit_events=2)
        client.server.faults.add({"kind": "freeze", "for_s": 0.5}, client.server.now_s())
        client.server.control.apply()
        assert (await client.get("/health", timeout_s=0.2)).end == "timeout"
        watch = Stopwatch()
        rest = await read_answer_more(reader, 80)
        assert watch.elapsed_s < 3.0
        assert len(rest.chunks) == 80
        writer.close()


async def test_a_frozen_engine_answers_http_and_gives_no_token() -> None:
    async with engine() as client:
        fault = (await client.fault("freeze", what="engine")).json
        assert (await client.get("/health")).status == 200
        before = (await client.get("/metrics")).body
        assert (await client.chat(timeout_s=0.3)).end == "timeout"
        after = (await client.get("/metrics")).body
        assert b"num_requests_running" in before
        assert after.count(b"\n") == before.count(b"\n")
        assert (await client.ask("DELETE", f"/sim/faults/{fault['id']}")).status == 200
        assert (await client.chat()).status == 200


async def test_sglangs_health_hangs_with_its_engine() -> None:
    async with engine("sglang") as client:
        started_s = time.monotonic()
        assert (await client.get("/health")).status == 200
        assert time.monotonic() - started_s >= 0.95
        await client.fault("freeze", what="engine")
        assert (await client.get("/health", timeout_s=1.6)).end == "timeout"


async def test_slow_multiplies_the_time_of_every_token() -> None:
    async with engine(profile=replace(QUICK, iteration_s=0.004)) as client:

        async def span() -> float:
            answer = await client.complete(stream=True, max_tokens=30)
            return answer.at_s[29] - answer.at_s[0]

        normal = await span()
        await client.fault("slow", factor=5)
        assert 3.5 <= await span() / normal <= 6.5


@pytest.mark.parametrize("how", ["missing", "stale", "garbage", "renamed", "slow"])
async def test_metrics_faults(how: str) -> None:
    async with engine() as client:
        good = (await client.get("/metrics")).body.decode()
        await client.fault("metrics", how=how)
        await client.complete(max_tokens=3)
        answer = await client.get("/metrics", timeout_s=0.4)
        if how == "missing":
            assert answer.status == 404
        elif how == "stale":
            assert answer.body.decode() == good
        elif how == "slow":
            assert answer.end == "timeout"
        else:
            assert answer.status == 200
            assert "\nvllm:num_requests_running{" not in answer.body.decode()


async def test_a_huge_metrics_page_is_sent_only_as_fast_as_it_is_read() -> None:
    async with engine() as client:
        await client.fault("metrics", how="huge")
        reader, writer = await client.send("GET", "/metrics")
        answer = await read_answer(reader, limit_events=3)
        assert answer.body.decode().startswith("# HELP vllm:num_requests_running")
        writer.close()


async def test_a_gzip_bomb_is_small_on_the_wire() -> None:
    async with engine() as client:
        await client.fault("metrics", how="gzip_bomb")
        answer = await client.get("/metrics")
        assert answer.headers["content-encoding"] == "gzip"
        assert len(answer.body) < 1_000_000


async def test_health_faults() -> None:
    async with engine() as client:
        await client.fault("health", status=500, count=1)
        assert (await client.get("/health")).status == 500
        assert (await client.get("/health")).status == 200
        await client.fault("health", how="hang")
        assert (await client.get("/health", timeout_s=0.3)).end == "timeout"
        assert (await client.chat()).status == 200


async def test_drain_finish_turns_health_off_and_still_serves() -> None:
    async with engine("sglang") as client:
        await client.fault("drain", how="finish")
        assert (await client.get("/health")).status == 503
        assert (await client.chat()).status == 200


async def test_drain_hidden_keeps_health_on_and_refuses() -> None:
    async with engine() as client:
        await client.fault("drain", how="hidden")
        assert (await client.get("/health")).status == 200
        answer = await client.chat()
        assert answer.status == 500
        assert "cannot schedule new futures after shutdown" in answer.json["error"]["message"]


async def test_drain_error_ends_open_streams_in_band() -> None:
    async with engine() as client:
        reader, writer = await client.send("POST", "/v1/completions", LONG)
        plain_reader, plain_writer = await client.send("POST", "/v1/completions", LONG | {"stream": False})
        await until(lambda: client.server.live.engine.running == 2)
        client.server.faults.add({"kind": "drain", "how": "error"}, client.server.now_s())
        client.server.control.apply()
        answer = await read_answer(reader)
        assert (answer.end, answer.done) == ("complete", True)
        assert answer.events[-1]["error"]["code"] == 500
        assert (await read_answer(plain_reader)).status == 500
        assert (await client.get("/health")).end == "refused"
        assert {a["reason"] for a in client.server.aborts} == {"shutdown"}
        writer.close()
        plain_writer.close()


async def test_drain_silence_leaves_open_streams_hanging() -> None:
    async with engine("llamacpp") as client:
        reader, writer = await client.send("POST", "/v1/completions", LONG)
        await read_answer(reader, limit_events=2)
        client.server.faults.add({"kind": "drain", "how": "silence"}, client.server.now_s())
        client.server.control.apply()
        more = await read_answer_more(reader, 1000, 0.5)
        assert more.end == "timeout"
        assert (await client.get("/health")).end == "refused"
        writer.close()


async def test_reset_forgets_faults_aborts_and_the_cache() -> None:
    async with engine() as client:
        prompt = "the sea " * 40
        await client.complete(prompt)
        await client.fault("error_status")
        client.server.aborts.append({})
        assert (await client.ask("POST", "/sim/reset", {})).status == 200
        state = await client.state()
        assert (state["faults"], state["aborts"]) == ([], [])
        again = await client.complete(prompt)
        assert again.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_state_shows_load_and_faults() -> None:
    async with engine() as client:
        reader, writer = await client.send("POST", "/v1/completions", LONG)
        await read_answer(reader, limit_events=2)
        await client.fault("slow", factor=2, for_s=60)
        state = await client.state()
        assert state["running"] == 1
        assert state["output_tokens"] >= 2
        assert state["faults"][0]["kind"] == "slow"
        assert 0 < state["faults"][0]["left_s"] <= 60
        writer.close()


async def test_all_of_many_streams_that_leave_are_seen() -> None:
    client_count = 200
    async with engine(profile=replace(QUICK, sequences=500, iteration_s=0.02)) as client:
        connections = await asyncio.gather(
            *(client.send("POST", "/v1/completions", LONG | {"max_tokens": 800}) for _ in range(client_count))
        )
        await until(lambda: client.server.live.engine.running == client_count)
        for _, writer in connections:
            writer.close()
        await until(lambda: client.server.live.engine.running == 0)
        assert len(client.server.aborts) == client_count
