"""core/endings.py: the words that end an answer well, and the shapes in which engines report errors."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from router.core.endings import error_in, is_finish
from router.core.sse import EVENT_LIMIT_BYTES, StreamKind, StreamWatch

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


def spelled(reason: str, colon: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{},"finish_reason"%b%b}]}\n\n' % (colon.encode(), reason.encode())


@pytest.mark.parametrize("colon", [":", ": ", " : ", ":\t", "  :  "])
@pytest.mark.parametrize(("word", "good"), [("stop", True), ("abort", False)])
@pytest.mark.parametrize("shape", ['"%s"', '{"type":"%s"}', '{ "type": "%s", "matched": 2 }'])
def test_a_reason_counts_however_its_json_is_spelled(colon: str, word: str, good: bool, shape: str) -> None:
    assert ended(TOKEN, TOKEN, spelled(shape % word, colon)) == (good, good)
    assert ended(TOKEN, TOKEN, spelled(shape % word, colon), DONE) == (good, good)


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_every_shape_of_error_is_found_in_the_midst_of_a_stream(error: dict[str, Any]) -> None:
    assert ended(TOKEN, TOKEN, b"data: " + orjson.dumps(error) + b"\n\n", DONE) == (False, False)


def test_a_choice_may_have_an_error_of_its_own() -> None:
    event = (
        b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":null,"error":{"message":"boom"}}]}\n\n'
    )
    assert ended(TOKEN, TOKEN, event, DONE) == (False, False)


@pytest.mark.parametrize("content", ['"x","logprob":NaN', r'"\ud83d"', '"\udcff"'])
def test_content_counts_as_such_in_the_json_of_other_languages(content: str) -> None:
    event = b'data: {"choices":[{"index":0,"delta":{"content":%b},"finish_reason":null}]}\n\n' % content.encode(
        "utf-8", "surrogateescape"
    )
    assert ended(event, event, DONE) == (True, True)
    assert ended(event, event, event.replace(b"null", b'"abort"'), DONE) == (False, False)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n", b"\n\n"])
def test_done_needs_no_empty_line(end: bytes) -> None:
    watch = StreamWatch(StreamKind.CHAT)
    said = [TOKEN, finish('"stop"'), b"data: [DONE]" + end]
    assert b"".join(map(watch.feed, said)) == b"".join(said)
    assert watch.done
    assert watch.feed(b"\n\n") + watch.flush() == b"\n\n"
    assert watch.usage.output_tokens == 2


LONG = b"x" * (3 * EVENT_LIMIT_BYTES // 2)
REPEATED = b'"instructions":"%b","usage":{"input_tokens":7,"output_tokens":20}' % LONG
LONG_STREAMS: dict[str, tuple[StreamKind, list[bytes], bool, tuple[int, int] | None]] = {
    "content": (StreamKind.CHAT, [TOKEN, TOKEN.replace(b'"x"', b'"%b"' % LONG), finish('"stop"')], True, None),
    "all in one": (StreamKind.CHAT, [finish('"stop"').replace(b"{}", b'{"content":"%b"}' % LONG), DONE], True, None),
    "abort": (StreamKind.CHAT, [finish('"abort"').replace(b"{}", b'{"content":"%b"}' % LONG), DONE], False, None),
    "completed": (
        StreamKind.RESPONSES,
        [
            b'event: response.created\ndata: {"type":"response.created","response":{"id":"r",%b}}\n\n' % REPEATED,
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n',
            b'event: response.completed\ndata: {"response":{"id":"r",%b},"type":"response.completed"}\n\n' % REPEATED,
        ],
        True,
        (7, 20),
    ),
    "type last": (
        StreamKind.RESPONSES,
        [b'data: {"response":{"id":"r",%b},"sequence_number":9,"type":"response.completed"}\n\n' % REPEATED],
        True,
        (7, 20),
    ),
    "failed": (
        StreamKind.RESPONSES,
        [b'event: response.failed\ndata: {"type":"response.failed","response":{"id":"r",%b}}\n\n' % REPEATED],
        False,
        None,
    ),
    "created only": (
        StreamKind.RESPONSES,
        [b'event: response.created\ndata: {"type":"response.created","response":{"id":"r",%b}}\n\n' % REPEATED],
        False,
        None,
    ),
}


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [65_536, 65_537, 999_999])
@pytest.mark.parametrize("name", LONG_STREAMS)
def test_an_event_too_long_to_be_held_still_ends_the_answer(name: str, size: int, line_end: bytes) -> None:
    kind, events, whole, tokens = LONG_STREAMS[name]
    data = b"".join(events).replace(b"\n", line_end)
    watch = StreamWatch(kind)
    out = b""
    for at in range(0, len(data), size):
        out += watch.feed(data[at : at + size])
        assert watch.held_bytes <= EVENT_LIMIT_BYTES
    out += watch.flush()
    assert watch.complete(framed=True) is whole
    assert data.startswith(out)
    if whole:
        assert out == data
    if tokens is not None:
        assert (watch.usage.prompt_tokens, watch.usage.output_tokens) == tokens
