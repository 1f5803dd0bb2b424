"""core/endings.py: the words that end an answer well, and the shapes in which engines report errors."""

from __future__ import annotations

from typing import Any

import pytest

from router.core.endings import error_in, is_finish
from router.core.sse import StreamKind, StreamWatch

GOOD = [
    "stop",
    "length",
    "tool_calls",
    "function_call",
    "content_filter",
    "eos_token",
    "stop_sequence",
    "end_turn",
    "max_tokens",
    "tool_use",
    "pause_turn",
    "refusal",
    "repetition",
    "model_length",
    "max_output_tokens",
    "model_context_window_exceeded",
    "STOP",
    "MAX_TOKENS",
]
BAD = ["abort", "error", "ABORT", "insufficient_system_resource", "cancelled", "unknown", "timeout"]
NOT_YET = [None, "", "null", "None", " ", False, 0]


@pytest.mark.parametrize(
    ("word", "verdict"), [*((w, True) for w in GOOD), *((w, False) for w in BAD), *((w, None) for w in NOT_YET)]
)
def test_only_known_words_end_an_answer_well(word: object, verdict: bool | None) -> None:
    assert is_finish(word) is verdict


ERRORS: list[dict[str, Any]] = [
    {"error": {"message": "boom", "code": 500}},  # vLLM, llama.cpp
    {"error": "boom", "error_type": "overloaded"},  # TGI
    {"object": "error", "message": "boom", "type": "InternalServerError", "code": 500},  # SGLang, older vLLM
    {"type": "error", "error": {"type": "overloaded_error", "message": "boom"}},  # Anthropic
    {"type": "error", "code": "server_error", "message": "boom"},  # OpenAI's responses
    {"message": "boom", "code": 503},
    {"message": "boom", "type": "server_error"},
    {"detail": "boom"},  # FastAPI
    {"detail": [{"msg": "boom"}]},
    {"title": "boom", "status": 500, "detail": "boom"},  # RFC 9457
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_shape_of_error_is_found(error: dict[str, Any]) -> None:
    found = error_in(error)
    assert found is not None
    assert "boom" in str(found["message"])


@pytest.mark.parametrize(
    "message",
    [{}, {"error": None, "output": []}, {"error": ""}, {"message": "loaded"}, {"text": "x", "detail": "word"},
     {"type": "transcript.text.delta", "delta": "error"}, {"code": 0, "message": "", "data": "00"}],
)  # fmt: skip
def test_what_is_no_error_is_none(message: dict[str, Any]) -> None:
    assert error_in(message) is None


TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'


def ended(*events: bytes, choices: int = 1, prompts: int = 1) -> tuple[bool, bool]:
    """Whether the stream is whole if its connection just ends, and if its framing ends well."""
    watch = StreamWatch(StreamKind.CHAT, choices=choices, prompts=prompts)
    for event in events:
        watch.feed(event)
    return watch.complete(framed=False), watch.complete(framed=True)


def finish(reason: str, index: int = 0) -> bytes:
    return b'data: {"choices":[{"index":%d,"delta":{},"finish_reason":%b}]}\n\n' % (index, reason.encode())


DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("reason", ['""', '"null"', "null"])
def test_an_empty_reason_ends_nothing(reason: str) -> None:
    word = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":%b}]}\n\n' % reason.encode()
    assert ended(word, word, word) == (False, False)
    assert ended(word, word, finish('"stop"')) == (True, True)
    assert ended(word, word, DONE) == (True, True)


@pytest.mark.parametrize("began", [b"", TOKEN])
def test_a_bad_reason_is_an_error_of_the_stream(began: bytes) -> None:
    watch = StreamWatch(StreamKind.CHAT)
    assert watch.feed(began + finish('"abort"') + DONE) == began
    assert watch.error is not None
    assert "abort" in watch.error["message"]
    assert not watch.complete(framed=True)


ONE = b'data: {"choices":[{"index":1,"delta":{"content":"x"},"finish_reason":null}]}\n\n'


@pytest.mark.parametrize(
    ("events", "choices", "prompts", "verdict"),
    [
        ((TOKEN, finish('"stop"')), 2, 1, (False, True)),  # an engine that ignores n
        ((TOKEN, ONE, finish('"stop"')), 2, 1, (False, False)),
        ((TOKEN, TOKEN, ONE, finish('"stop"'), DONE), 2, 1, (False, False)),
        ((TOKEN, ONE, finish('"stop"'), finish('"length"', 1)), 2, 1, (True, True)),
        ((TOKEN, finish('"stop"')), 2, 2, (False, False)),  # a prompt without an answer
        ((TOKEN, finish('"stop"'), DONE), 2, 2, (False, False)),
        ((TOKEN, ONE, finish('"stop"', 1), finish('"stop"')), 4, 2, (False, True)),
    ],
)
def test_every_choice_that_began_and_every_prompt_must_have_finished(
    events: tuple[bytes, ...], choices: int, prompts: int, verdict: tuple[bool, bool]
) -> None:
    assert ended(*events, choices=choices, prompts=prompts) == verdict


ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":0}}\n\n'


@pytest.mark.parametrize("kind", list(StreamKind))
@pytest.mark.parametrize(
    "events",
    [
        b"",
        DONE,
        USAGE + DONE,
        b": ping\n\n" + DONE,
        b"<html><body>Bad gateway</body></html>",
        b'error: {"code":500,"message":"boom"}\n\n' + DONE,
        b'event: error\ndata: {"message":"boom"}\n\n' + DONE,
        b"event: error\ndata: boom\n\n" + DONE,
        b'data: {"detail":"boom"}\n\n' + DONE,
        b'data: {"object":"error","message":"boom","code":500}\n\n' + DONE,
    ],
)
def test_a_stream_without_content_is_no_success(kind: StreamKind, events: bytes) -> None:
    watch = StreamWatch(kind)
    watch.feed(events)
    watch.flush()
    assert not watch.started
    assert not watch.complete(framed=True)


def test_a_role_and_an_end_are_no_success() -> None:
    assert ended(ROLE, DONE) == (False, False)
    assert ended(ROLE, finish('""'), USAGE, DONE) == (False, False)
    assert ended(ROLE, finish('"stop"')) == (True, True)  # the model had nothing to say


@pytest.mark.parametrize(
    ("kind", "begin", "end", "whole"),
    [
        (StreamKind.RESPONSES, '{"type":"response.output_text.delta","delta":"x"}', '{"type":"response.completed","response":{}}', True),
        (StreamKind.RESPONSES, '{"type":"response.output_text.delta","delta":"x"}', '{"type":"response.failed","response":{"error":{"message":"boom"}}}', False),
        (StreamKind.RESPONSES, '{"type":"response.output_text.delta","delta":"x"}', '{"type":"error","message":"boom"}', False),
        (StreamKind.RESPONSES, '{"type":"response.output_text.delta","delta":"x"}', "[DONE]", False),
        (StreamKind.RESPONSES, '{"type":"response.created","response":{"error":null}}', '{"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}', True),
        (StreamKind.MESSAGES, '{"type":"content_block_delta","delta":{}}', '{"type":"message_stop"}', True),
        (StreamKind.MESSAGES, '{"type":"message_start","message":{}}', '{"type":"message_stop"}', False),
        (StreamKind.MESSAGES, '{"type":"message_delta","delta":{"stop_reason":"end_turn"}}', '{"type":"message_stop"}', True),
        (StreamKind.MESSAGES, '{"type":"message_delta","delta":{"stop_reason":"abort"}}', '{"type":"message_stop"}', False),
        (StreamKind.OTHER, '{"type":"speech.audio.delta","audio":"AA=="}', "[DONE]", True),
        (StreamKind.OTHER, '{"type":"speech.audio.delta","audio":"AA=="}', '{"error":{"message":"boom"}}', False),
    ],
)  # fmt: skip
def test_each_api_has_its_own_end(kind: StreamKind, begin: str, end: str, whole: bool) -> None:
    watch = StreamWatch(kind)
    for payload in (begin, end):
        watch.feed(f"data: {payload}\n\n".encode())
    assert watch.complete(framed=True) is whole


@pytest.mark.parametrize(
    "hostile", ['{"choices":5}', '{"choices":[1,null,{"index":[1]}]}', "[]", "5", '{"choices":[{"delta":5}]}',
                '{"choices":{"a":1},"usage":{"prompt_tokens":true}}', "null", '{"choices":[{"finish_reason":{"type":5}}]}']
)  # fmt: skip
@pytest.mark.parametrize("kind", list(StreamKind))
def test_an_event_of_any_type_is_survived(kind: StreamKind, hostile: str) -> None:
    watch = StreamWatch(kind, choices=2)
    event = f"data: {hostile}\n\n".encode()
    assert watch.feed(event) == event
