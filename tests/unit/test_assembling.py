"""Whole answers that llama.cpp is asked for as streams: one piece for the client, and nothing it can tell apart."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from router.core.traits import TRAITS
from router.gateway.aliases import edited
from router.gateway.assembling import as_stream
from tests.support.captures import ROOT, load
from tests.support.playbook import DONE, Playbook, chat, configuration, post, whole

CAPTURES = ROOT / "llama.cpp-b11549"
STREAM = load(CAPTURES / "chat_stream_usage.response.http").body
WHOLE = load(CAPTURES / "chat_nonstream.response.http").body
EVENTS = [event + b"\n\n" for event in STREAM.split(b"\n\n") if event.strip()]
TEXT = orjson.loads(WHOLE)["choices"][0]["message"]["content"]


@pytest.fixture
async def book(monkeypatch: pytest.MonkeyPatch) -> Playbook:
    return Playbook(monkeypatch, configuration().replace('"vllm"', '"llamacpp"'))


def sent(book: Playbook) -> dict[str, Any]:
    """The body that the engine got last."""
    return orjson.loads(book.asked.asked[-1].rpartition(b"\r\n\r\n")[2])  # type: ignore[no-any-return]


async def test_the_client_gets_the_whole_answer_of_the_engine(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    asked = sent(book)
    assert asked.pop("stream") is True
    assert asked.pop("stream_options") == {"include_usage": True}
    assert asked == orjson.loads(chat().rpartition(b"\r\n\r\n")[2])
    book.asked.streams(*EVENTS[:-1])
    assert not client.heard, "nothing before the end"
    book.asked.goes_on(DONE, end=True)
    answer = client.answer
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert "transfer-encoding" not in answer.headers
    assert answer.json["object"] == "chat.completion"
    assert answer.json["choices"] == orjson.loads(WHOLE)["choices"]
    (record,) = book.records
    assert (record.stream, record.prompt_tokens, record.output_tokens) == (False, 20, 12)
    assert record.ttft_s is None, "the client has it in one piece"
    book.at_rest()


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
async def test_it_does_not_matter_how_the_stream_is_cut(book: Playbook, size: int) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    book.asked.streams(*pieces, end=True)
    assert client.answer.json["choices"][0]["message"]["content"] == TEXT
    book.at_rest()


async def test_engines_that_die_at_different_places_do_not_die_of_it(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    for events in (EVENTS[:2], EVENTS[:2] + EVENTS[1:2] * 20):
        await book.turn()
        engine = book.asked
        engine.streams(*events)
        engine.dies()
    await book.turn()
    book.asked.streams(*EVENTS[:-1], DONE, end=True)
    assert client.answer.json["choices"][0]["message"]["content"] == TEXT
    book.at_rest()


@pytest.mark.parametrize("kept", range(len(EVENTS) - 3))
async def test_one_that_breaks_off_is_started_over_unseen(book: Playbook, kept: int) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    first = book.asked
    first.streams(*EVENTS[:kept])
    first.dies()
    await book.turn()
    assert not client.heard
    second = book.asked
    assert second is not first
    second.streams(*EVENTS, end=True)
    assert client.answer.json["choices"][0]["message"]["content"] == TEXT
    assert client.answer.headers["x-router-attempts"] == "2"
    book.at_rest()


async def test_one_that_falls_silent_is_started_over(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    first = book.asked
    first.streams(*EVENTS[:4])
    book.advance(61.0)
    await book.turn()
    assert book.asked is not first
    book.asked.streams(*EVENTS, end=True)
    assert client.answer.status == 200
    assert book.records[0].attempts[0].outcome == "server_error"
    book.at_rest()


async def test_an_end_without_a_finish_reason_is_no_answer(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    book.asked.streams(*EVENTS[:4], end=True)
    await book.turn()
    book.asked.streams(*EVENTS, end=True)
    assert client.answer.headers["x-router-attempts"] == "2"
    book.at_rest()


async def test_a_client_that_leaves_takes_the_attempt_with_it(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    backend = book.asked
    backend.streams(*EVENTS[:4])
    client.leave()
    await book.turn()
    assert book.records[0].attempts[0].outcome == "client_gone"
    book.at_rest()


async def test_an_engine_that_answers_whole_all_the_same_is_understood(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    book.asked.answers(200, whole("Hello"))
    assert client.answer.json["choices"][0]["message"]["content"] == "Hello"
    book.at_rest()


async def test_a_refusal_is_that_of_the_request_as_it_came(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    book.asked.answers(400, b'{"error":{"code":400,"message":"no streams here","type":"invalid_request_error"}}')
    await book.turn()
    assert "stream" not in sent(book)
    book.asked.answers(400, b'{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}')
    assert client.answer.status == 400
    assert client.answer.error["message"] == "too long"
    assert client.answer.headers["x-router-attempts"] == "1"
    book.at_rest()


@pytest.mark.parametrize(
    "fields",
    [{"n": 2}, {"logprobs": True}, {"tools": []}, {"messages": [{"role": "assistant", "content": "It"}]}],
    ids=["n", "logprobs", "tools", "begun"],
)
async def test_other_requests_go_as_they_came(book: Playbook, fields: dict[str, Any]) -> None:
    client = book.client()
    client.send(chat(**fields))
    await book.turn()
    assert "stream" not in sent(book)
    client.leave()
    await book.turn()


async def test_completions_are_put_together_too(book: Playbook) -> None:
    stream = load(CAPTURES / "completion_stream_usage.response.http").body
    client = book.client()
    client.send(post("/v1/completions", orjson.dumps({"model": "m", "prompt": "the region router", "stream": False})))
    await book.turn()
    assert sent(book)["stream"] is True
    book.asked.streams(stream, end=True)
    captured = orjson.loads(load(CAPTURES / "completion_nonstream.response.http").body)
    assert client.answer.json["choices"] == captured["choices"]
    assert client.answer.json["object"] == "text_completion"
    book.at_rest()


async def test_vllm_is_asked_for_what_the_client_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Playbook(monkeypatch)
    client = book.client()
    client.send(chat())
    await book.turn()
    assert "stream" not in sent(book)
    book.asked.answers(200, whole("Hello"))
    assert client.answer.status == 200
    assert TRAITS["vllm"].takes_usage_option


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[]}',
        b'{"model":"m","stream":false,"messages":[]}',
        b'{"stream" : null , "model":"m","messages":[{"role":"user","content":"\\"stream\\":false"}]}',
    ],
)
def test_the_body_becomes_that_of_a_stream(body: bytes) -> None:
    made = orjson.loads(b"".join(edited(body, sorted(as_stream(body)))))
    asked = orjson.loads(body)
    assert made == asked | {"stream": True, "stream_options": {"include_usage": True}}
