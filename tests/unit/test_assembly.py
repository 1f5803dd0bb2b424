"""Whole answers from streams: compared, member for member, with what the same engines gave when asked for them whole."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.assembly import BODY_BYTES_MAX, Assembly, NotWholeError, why_not
from router.core.framing import events_of
from router.core.traits import TRAITS
from tests.support.captures import ROOT, load

#: an engine, its captures, a stream, the whole answer to the same request
PAIRS = [
    ("llamacpp", "llama.cpp-b11549", "chat_stream_usage", "chat_nonstream", True),
    ("llamacpp", "llama.cpp-b11549", "completion_stream_usage", "completion_nonstream", False),
    ("llamacpp", "llama.cpp-b11549", "completion_stream", "completion_nonstream", False),
    ("vllm", "vllm-0.32.0", "chat_stream_usage", "chat_nonstream", True),
    ("vllm", "vllm-0.32.0", "completion_stream_usage", "completion_nonstream", False),
]
#: What differs between two answers of an engine to the same request, however it is asked.
CHANCE = {"id", "created", "timings", "cached_tokens"}


def whole_of(engine: str, stream: bytes, *, chat: bool) -> bytes:
    assembly = Assembly(chat=chat)
    for event in events_of(stream):
        assembly.feed(event)
    row = TRAITS[engine].assembled
    assert row is not None
    return assembly.whole(row.chat if chat else row.completions)


def without_chance(value: Any) -> Any:
    """Members in their order, since engines have one."""
    if isinstance(value, dict):
        return [(name, None if name in CHANCE else without_chance(inner)) for name, inner in value.items()]
    return [without_chance(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("engine", "folder", "stream", "whole", "chat"), PAIRS, ids=[f"{p[0]}-{p[2]}" for p in PAIRS])
def test_it_is_the_answer_that_the_engine_gives_whole(
    engine: str, folder: str, stream: str, whole: str, chat: bool
) -> None:
    made = whole_of(engine, load(ROOT / folder / f"{stream}.response.http").body, chat=chat)
    given_whole = load(ROOT / folder / f"{whole}.response.http").body
    assert without_chance(orjson.loads(made)) == without_chance(orjson.loads(given_whole))


def llamacpp_event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"finish_reason": finish, "index": 0, "delta": delta}
    message = {"choices": [choice], "created": 7, "id": "chatcmpl-1", "model": "m", **more}
    return b"data: %b\n\n" % orjson.dumps(message)


ROLE = llamacpp_event({"role": "assistant", "content": None})
USAGE = (
    b'data: {"choices":[],"created":7,"id":"chatcmpl-1","model":"m","usage":{"completion_tokens":2,'
    b'"prompt_tokens":1,"total_tokens":3},"timings":{"predicted_n":2}}\n\ndata: [DONE]\n\n'
)
TEXTS = st.lists(st.text(alphabet='a"\\\n\té語😀{}:,', max_size=5), max_size=12)


def message_of(*events: bytes) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(whole_of("llamacpp", b"".join(events) + USAGE, chat=True))
    return made["choices"][0]["message"]  # type: ignore[no-any-return]


@given(TEXTS, st.booleans())
def test_every_text_comes_out_as_its_pieces_went_in(texts: list[str], spaced: bool) -> None:
    events = [llamacpp_event({"content": text}) for text in texts]
    if spaced:
        events = [event.replace(b'"content":', b'"content": ') for event in events]
    assert message_of(ROLE, *events, llamacpp_event({}, "stop"))["content"] == "".join(texts)


@given(TEXTS)
def test_reasoning_and_content_are_kept_apart(texts: list[str]) -> None:
    events = [llamacpp_event({("content", "reasoning_content")[i % 2]: text}) for i, text in enumerate(texts)]
    message = message_of(ROLE, *events, llamacpp_event({}, "stop"))
    assert message["content"] == "".join(texts[::2])
    assert message.get("reasoning_content", "") == "".join(texts[1::2])


def test_text_that_looks_like_the_end_of_an_event_is_text() -> None:
    texts = ["plain", '"}}],"created":7', "\\", '\\"}}]', "end"]
    events = [llamacpp_event({"content": text}) for text in texts]
    assert message_of(ROLE, *events, llamacpp_event({}, "stop"))["content"] == "".join(texts)


def test_halves_of_a_surrogate_pair_are_one_character_again() -> None:
    halves = [llamacpp_event({"content": "@"}).replace(b"@", half) for half in (b"\\ud83d", b"\\ude00")]
    assert message_of(ROLE, *halves, llamacpp_event({}, "stop"))["content"] == "😀"


def test_tool_calls_are_put_together_by_their_index() -> None:
    parts: list[dict[str, Any]] = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city'}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "time", "arguments": ""}},
        {"index": 0, "function": {"arguments": '":"Paris"}'}},
        {"index": 1, "function": {"arguments": "{}"}},
    ]
    events = [llamacpp_event({"tool_calls": [part]}) for part in parts]
    message = message_of(ROLE, *events, llamacpp_event({}, "tool_calls"))
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
        {"id": "b", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]


def test_an_answer_without_a_word_has_an_empty_text() -> None:
    assert message_of(ROLE, llamacpp_event({}, "stop")) == {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    ("events", "why"),
    [
        (ROLE + USAGE, "finish reason"),
        (ROLE + llamacpp_event({}, "stop"), "usage"),
        (ROLE.replace(b'"index":0', b'"index":1') + USAGE, "several choices"),
        (b"data: {broken\n\n", "not JSON"),
        (b'error: {"code":500}\n\n', "not part of an answer"),
        (llamacpp_event({"audio": {"id": "x"}}), "audio"),
    ],
    ids=["unfinished", "without-usage", "two-choices", "broken", "error", "sound"],
)
def test_what_makes_no_whole_answer_is_said(events: bytes, why: str) -> None:
    with pytest.raises(NotWholeError, match=why):
        whole_of("llamacpp", events, chat=True)


def test_what_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.core.assembly.TEXT_BYTES_MAX", 1000)
    with pytest.raises(NotWholeError, match="1000 bytes"):
        whole_of("llamacpp", ROLE + llamacpp_event({"content": "x" * 100}) * 20, chat=True)


CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
TEXT: dict[str, Any] = {"model": "m", "prompt": "hi", "max_tokens": 4}


@pytest.mark.parametrize(
    ("engine", "body", "chat", "why"),
    [
        ("llamacpp", CHAT, True, None),
        ("llamacpp", CHAT | {"stream": False, "n": 1, "logprobs": False, "stop": ["x"]}, True, None),
        ("llamacpp", TEXT, False, None),
        ("vllm", CHAT, True, None),
        ("llamacpp", CHAT | {"n": 2}, True, "several choices"),
        ("llamacpp", CHAT | {"logprobs": True}, True, "log probabilities"),
        ("llamacpp", TEXT | {"logprobs": 2}, False, "log probabilities"),
        ("llamacpp", TEXT | {"prompt": ["a", "b"]}, False, "not one text"),
        ("llamacpp", TEXT | {"echo": True}, False, "says echo"),
        ("llamacpp", CHAT | {"tools": []}, True, "says tools"),
        ("llamacpp", CHAT | {"timings_per_token": True}, True, "says timings_per_token"),
        ("llamacpp", CHAT | {"messages": [{"role": "assistant", "content": "It"}]}, True, "begins the answer"),
        ("vllm", CHAT | {"messages": [{"role": "assistant", "content": "It"}]}, True, None),
        ("vllm", CHAT | {"return_token_ids": True}, True, "says return_token_ids"),
        ("llamacpp", CHAT | {"messages": "hi"}, True, "not what the API says"),
        ("llamacpp", CHAT | {"user": "x" * BODY_BYTES_MAX}, True, "long"),
    ],
)
def test_other_requests_go_as_they_came(engine: str, body: dict[str, Any], chat: bool, why: str | None) -> None:
    row = TRAITS[engine].assembled
    assert row is not None
    said = why_not(row, orjson.dumps(body), chat=chat)
    assert said is None if why is None else why in (said or "")
