"""The simulated engine as an HTTP server: answers, continuation, aborts, latency."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from dataclasses import replace
from inspect import signature

import pytest

from sim.engine import Phase
from sim.engine_http import Server
from sim.text import tokenizer
from tests.support.sim_engine import MODEL, POLYGLOT, QUICK, engine, read_answer, until
from tests.support.stopwatch import Stopwatch

CONTINUING = ("vllm", "sglang", "llamacpp")
KINDS = (*CONTINUING, "openai")
SPEEDY = replace(QUICK, iteration_s=0.0002)
HELLO = {"role": "user", "content": "hello region"}


@pytest.mark.parametrize("model", [MODEL, POLYGLOT])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_and_a_plain_answer_say_the_same(kind: str, model: str) -> None:
    async with engine(kind, model=model) as client:
        plain = await client.chat()
        stream = await client.chat(stream=True, stream_options={"include_usage": True})
        message = plain.json["choices"][0]
        assert plain.status == stream.status == 200
        assert stream.text == message["message"]["content"] != ""
        assert message["finish_reason"] == "length"
        assert stream.done is (kind != "openai")
        assert stream.end == "complete"
        usage = next(e["usage"] for e in stream.events if e.get("usage"))
        assert usage["completion_tokens"] == plain.json["usage"]["completion_tokens"] == 12
        assert usage["prompt_tokens"] == plain.json["usage"]["prompt_tokens"] > 0


async def test_engines_of_one_model_say_the_same_whatever_their_kind() -> None:
    texts = set()
    for kind in KINDS:
        async with engine(kind, seed=len(texts)) as client:
            texts.add((await client.chat("why is the sea salty?", stream=True, max_tokens=40)).text)
    assert len(texts) == 1


@pytest.mark.parametrize("model", [MODEL, POLYGLOT])
@pytest.mark.parametrize("kind", CONTINUING)
@pytest.mark.parametrize("cut", [1, 7, 19])
async def test_a_partial_answer_goes_on_exactly_by_text(kind: str, model: str, cut: int) -> None:
    options = {"stream": True, "max_tokens": None, "stream_options": {"include_usage": True}}
    async with engine(kind, SPEEDY, model=model) as client:
        whole = await client.chat(messages=[HELLO], **options)
        partial = whole.text[: cut * 5]
        rest = await client.chat(
            messages=[HELLO, {"role": "assistant", "content": partial}],
            continue_final_message=True,
            add_generation_prompt=False,
            **options,
        )
        assert partial + rest.text == whole.text
        first, second = (next(e["usage"] for e in answer.events if e.get("usage")) for answer in (whole, rest))
        said = len(tokenizer().encode(partial.encode()))
        assert second["prompt_tokens"] == first["prompt_tokens"] + said, "what was said already is prompt"


@pytest.mark.parametrize("model", [MODEL, POLYGLOT])
async def test_a_partial_answer_goes_on_exactly_by_token_ids(model: str) -> None:
    async with engine(model=model) as client:
        whole = await client.chat(messages=[HELLO], stream=True, max_tokens=60, return_token_ids=True)
        prompt_ids = whole.events[0]["prompt_token_ids"]
        pieces = [(c["token_ids"], c["delta"]["content"]) for e in whole.events[1:] for c in e["choices"]]
        ids = [i for new, _ in pieces for i in new]
        assert len(ids) == 60
        for cut in range(1, 60, 7):  # with half a character behind it here and there
            rest = await client.complete(
                prompt_ids + ids[:cut], max_tokens=60 - cut, return_token_ids=True, stream=True
            )
            assert [i for e in rest.events for i in e["choices"][0]["token_ids"]] == ids[cut:]
            assert "".join(text for _, text in pieces[:cut]) + rest.text == whole.text
            assert rest.events[0]["choices"][0]["prompt_token_ids"] == prompt_ids + ids[:cut]


async def test_a_completion_goes_on_from_prompt_and_partial_text() -> None:
    async with engine() as client:
        whole = (await client.complete("Once upon a", max_tokens=30)).json["choices"][0]["text"]
        part = whole[:50]
        rest = (await client.complete("Once upon a" + part, max_tokens=40)).json["choices"][0]["text"]
        assert (part + rest).startswith(whole)


async def test_without_the_flags_an_assistant_message_is_history_except_for_llamacpp() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Each open"}]
    starts = {}
    for kind in CONTINUING:
        async with engine(kind) as client:
            starts[kind] = (await client.chat(messages=messages, stream=True)).text[0]
    assert starts["vllm"].isupper()
    assert starts["sglang"].isupper()
    assert starts["llamacpp"] == " "


async def test_llamacpp_repeats_the_partial_in_plain_answers_only() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Each open"}]
    async with engine("llamacpp") as client:
        plain = (await client.chat(messages=messages)).json["choices"][0]["message"]["content"]
        stream = (await client.chat(messages=messages, stream=True)).text
        assert plain == "Each open" + stream


async def test_max_completion_tokens_goes_before_max_tokens() -> None:
    async with engine() as client:
        answer = await client.chat(max_completion_tokens=3, max_tokens=9)
        assert answer.json["usage"]["completion_tokens"] == 3


async def test_without_a_limit_a_chat_ends_by_itself() -> None:
    async with engine(profile=replace(QUICK, iteration_s=0.0001)) as client:
        answer = await client.chat(max_tokens=None)
        assert answer.json["choices"][0]["finish_reason"] == "stop"
        assert answer.json["choices"][0]["message"]["content"].endswith(".")


@pytest.mark.parametrize("model", [MODEL, POLYGLOT])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stop_string_is_never_seen(kind: str, model: str) -> None:
    async with engine(kind, model=model) as client:
        whole = (await client.chat(stream=True, max_tokens=60)).text
        stop = whole[30:36]
        stopped = await client.chat(stream=True, max_tokens=60, stop=[stop])
        assert stopped.text == whole[: whole.index(stop)]
        reasons = [c.get("finish_reason") for e in stopped.events for c in e["choices"]]
        assert [r for r in reasons if r] == ["stop"]


async def test_text_is_held_back_while_a_stop_string_may_still_complete() -> None:
    async with engine() as client:
        free = await client.chat(stream=True)
        held = await client.chat(stream=True, stop=["this never comes at all"])
        first = [e["choices"][0]["delta"]["content"] for e in held.events[1:4]]
        assert first == ["", "", ""]
        assert held.text == free.text


@pytest.mark.parametrize("kind", CONTINUING)
async def test_several_choices_interleave_and_differ(kind: str) -> None:
    async with engine(kind) as client:
        options = {"n": 2, "temperature": 1, "seed": 7, "stream": True, "stream_options": {"include_usage": True}}
        answer = await client.chat(**options)
        again = await client.chat(**options)
        texts = ["", ""]
        for event in answer.events:
            for choice in event["choices"]:
                texts[choice["index"]] += choice["delta"].get("content") or ""
        assert texts[0] != texts[1]
        assert again.text == answer.text
        usages = [e["usage"]["completion_tokens"] for e in answer.events if e.get("usage")]
        assert usages == ([12, 12] if kind == "llamacpp" else [24])


async def test_several_prompts_are_answered_in_one_reply() -> None:
    async with engine() as client:
        both = (await client.complete(["the region", "router queue"], max_tokens=4)).json
        one = (await client.complete("router queue", max_tokens=4)).json
        assert [c["index"] for c in both["choices"]] == [0, 1]
        assert both["choices"][1]["text"] == one["choices"][0]["text"]
        assert both["usage"]["completion_tokens"] == 8


async def test_echo_and_logprobs() -> None:
    async with engine() as client:
        answer = (await client.complete("the region", max_tokens=2, echo=True, logprobs=1)).json["choices"][0]
        assert answer["text"].startswith("the region")
        assert len(answer["logprobs"]["tokens"]) == 2
        chat = (await client.chat(max_tokens=2, logprobs=True, top_logprobs=2)).json["choices"][0]
        assert len(chat["logprobs"]["content"]) == 2
        assert len(chat["logprobs"]["content"][0]["top_logprobs"]) == 2


async def test_the_request_id_becomes_the_answers_id() -> None:
    async with engine() as client:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        answer = await client.ask("POST", "/v1/chat/completions", body, {"X-Request-Id": "abc-1"})
        assert answer.json["id"] == "chatcmpl-abc-1"


async def test_embeddings_as_numbers_and_packed() -> None:
    async with engine() as client:
        plain = (await client.ask("POST", "/v1/embeddings", {"model": MODEL, "input": ["a", "b"]})).json
        packed = (
            await client.ask("POST", "/v1/embeddings", {"model": MODEL, "input": "a", "encoding_format": "base64"})
        ).json
        raw = base64.b64decode(packed["data"][0]["embedding"])
        vector = plain["data"][0]["embedding"]
        assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(vector, abs=1e-6)
        assert sum(x * x for x in vector) == pytest.approx(1.0)
        assert plain["data"][1]["embedding"] != vector
        assert plain["usage"]["prompt_tokens"] == 2


@pytest.mark.parametrize("kind", CONTINUING)
async def test_tokenize_and_detokenize_are_inverse(kind: str) -> None:
    text = "The quiet router, naïve <|user|> 日本"
    async with engine(kind) as client:
        field = "content" if kind == "llamacpp" else "prompt"
        ids = (await client.ask("POST", "/tokenize", {"model": MODEL, field: text})).json["tokens"]
        back = (await client.ask("POST", "/detokenize", {"model": MODEL, "tokens": ids})).json
        assert text in back.values()


async def test_the_prefix_of_the_next_turn_is_cached() -> None:
    async with engine() as client:
        question = {"role": "user", "content": "tell me of the sea " * 10}
        first = await client.chat(messages=[question], max_tokens=40)
        reply = first.json["choices"][0]["message"]
        follow_up = [question, {"role": "assistant", "content": reply["content"]}, {"role": "user", "content": "more"}]
        second = await client.chat(messages=follow_up)
        details = second.json["usage"]["prompt_tokens_details"]
        assert first.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        known = first.json["usage"]["prompt_tokens"] + 40
        assert known - 32 < details["cached_tokens"] <= known


# ---- aborts


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_leaves_frees_its_place_at_once(kind: str) -> None:
    async with engine(kind) as client:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 5000, "stream": True}
        reader, writer = await client.send("POST", "/v1/chat/completions", body)
        await read_answer(reader, limit_events=4)
        watch = Stopwatch()
        writer.close()
        await until(lambda: client.server.live.engine.running == 0)
        assert watch.elapsed_s < 0.25
        (entry,) = client.server.aborts
        assert entry["reason"] == "client_gone"
        assert entry["phase"] == "decode"
        assert client.server.live.engine.kv.available == client.server.live.engine.kv.capacity


async def test_leaving_a_plain_request_aborts_it_on_vllm_but_not_on_llamacpp() -> None:
    for kind, running in (("vllm", 0), ("llamacpp", 1)):
        async with engine(kind) as client:
            body = {"model": MODEL, "prompt": "x", "max_tokens": 5000}
            _, writer = await client.send("POST", "/v1/completions", body)
            await until(lambda client=client: client.server.live.engine.running == 1)
            writer.close()
            await until(lambda client=client: not client.server.link.connections)
            await asyncio.sleep(0.05)
            assert client.server.live.engine.running == running


async def test_leaving_the_queue_is_an_abort_too() -> None:
    async with engine(profile=replace(QUICK, sequences=1)) as client:
        body = {"model": MODEL, "prompt": "x", "max_tokens": 5000, "stream": True}
        first = await client.send("POST", "/v1/completions", body)
        await until(lambda: client.server.live.engine.running == 1)
        second = await client.send("POST", "/v1/completions", body)
        await until(lambda: client.server.live.engine.waiting == 1)
        second[1].close()
        await until(lambda: client.server.live.engine.waiting == 0 and len(client.server.aborts) > 0)
        assert client.server.aborts[-1]["phase"] == Phase.WAITING.value
        first[1].close()


async def test_a_half_closed_connection_counts_as_gone() -> None:
    async with engine() as client:
        body = {"model": MODEL, "prompt": "x", "max_tokens": 5000, "stream": True}
        reader, writer = await client.send("POST", "/v1/completions", body)
        await read_answer(reader, limit_events=3)
        writer.write_eof()
        await until(lambda: client.server.live.engine.running == 0)
        writer.close()


# ---- connections and latency


@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
async def test_a_connection_serves_several_requests_and_llamacpp_closes_after_an_error(kind: str) -> None:
    async with engine(kind) as client:
        reader, writer = await client.send("GET", "/v1/models")
        assert (await read_answer(reader)).status == 200
        client.write(writer, "POST", "/v1/completions", {"model": MODEL, "prompt": "x", "max_tokens": 2})
        assert (await read_answer(reader)).status == 200
        client.write(writer, "POST", "/v1/completions", b"{")
        refused = await read_answer(reader)
        assert refused.status == 400
        if kind == "llamacpp":
            assert refused.headers["connection"] == "close"
            assert await reader.read() == b""
        writer.close()


async def test_llamacpp_serves_a_hundred_requests_per_connection() -> None:
    async with engine("llamacpp") as client:
        reader, writer = await client.send("GET", "/health")
        answers = [await read_answer(reader)]
        while answers[-1].headers.get("connection") != "close":
            client.write(writer, "GET", "/health")
            answers.append(await read_answer(reader))
        assert len(answers) == 100
        writer.close()


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    assert signature(Server).parameters["keep_alive_s"].default == 5.0  # what the real ones do
    async with engine(keep_alive_s=0.5) as client:
        reader, writer = await client.send("GET", "/health")
        await read_answer(reader)
        idle_s, watch = time.monotonic(), Stopwatch()
        assert await asyncio.wait_for(reader.read(), 30) == b""
        assert time.monotonic() - idle_s >= 0.4
        assert watch.elapsed_s <= 2.0
        writer.close()


async def test_latency_is_half_a_round_trip_each_way_and_one_more_for_the_first_bytes() -> None:
    async with engine(rtt_ms=60) as client:
        started_s, watch = time.monotonic(), Stopwatch()
        reader, writer = await client.send("GET", "/health")
        await read_answer(reader)
        assert time.monotonic() - started_s >= 0.115
        assert watch.elapsed_s <= 0.18
        started_s, watch = time.monotonic(), Stopwatch()
        client.write(writer, "GET", "/health")
        await read_answer(reader)
        assert time.monotonic() - started_s >= 0.055
        assert watch.elapsed_s <= 0.11
        writer.close()


async def test_latency_keeps_order_and_pacing() -> None:
    async with engine(rtt_ms=50, profile=replace(QUICK, iteration_s=0.02)) as client:
        near = (await client.complete(max_tokens=10)).json["choices"][0]["text"]
        far = await client.complete(max_tokens=10, stream=True)
        assert far.text == near
        gaps = [b - a for a, b in zip(far.at_s, far.at_s[1:-1], strict=False)]
        assert sum(gaps) / len(gaps) == pytest.approx(0.02, abs=0.008)


async def test_the_engine_hears_of_a_leaving_client_half_a_round_trip_later() -> None:
    async with engine(rtt_ms=200) as client:
        body = {"model": MODEL, "prompt": "x", "max_tokens": 5000, "stream": True}
        reader, writer = await client.send("POST", "/v1/completions", body)
        await read_answer(reader, limit_events=2)
        left_s, watch = time.monotonic(), Stopwatch()
        writer.close()
        await until(lambda: client.server.live.engine.running == 0)
        assert time.monotonic() - left_s >= 0.09
        assert watch.elapsed_s <= 0.25


@pytest.mark.parametrize("kind", CONTINUING)
async def test_metrics_show_what_runs_and_waits(kind: str) -> None:
    names = {
        "vllm": ("vllm:num_requests_running", "vllm:num_requests_waiting"),
        "sglang": ("sglang:num_running_reqs", "sglang:num_queue_reqs"),
        "llamacpp": ("llamacpp:requests_processing", "llamacpp:requests_deferred"),
    }[kind]
    async with engine(kind, profile=replace(QUICK, sequences=2)) as client:
        writers = []
        for _ in range(3):
            body = {"model": MODEL, "prompt": "x", "max_tokens": 5000, "stream": True}
            writers.append((await client.send("POST", "/v1/completions", body))[1])
        await until(lambda: client.server.live.engine.waiting == 1)
        page = (await client.get("/metrics")).body.decode()
        values = [
            float(line.rsplit(" ", 1)[1]) for name in names for line in page.splitlines() if line.startswith(name)
        ]
        assert values[:2] in ([2.0, 1.0], [2.0, 1.0, 1.0])
        for writer in writers:
            writer.close()
