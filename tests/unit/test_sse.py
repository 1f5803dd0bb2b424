"""core/sse.py on streams of real engines, on every split of their bytes, and on hostile ones."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.sse import EVENT_LIMIT_BYTES, StreamKind, StreamWatch
from router.core.types import Usage
from router.core.usage import read_usage
from tests.support import captures
from tests.support.effort import examples

STREAMS = captures.streams()
NAMES = [c.name for c in STREAMS]


def kind_of(name: str) -> StreamKind:
    if "/responses_" in name:
        return StreamKind.RESPONSES
    return StreamKind.MESSAGES if "/messages_" in name else StreamKind.CHAT


def watch_all(watch: StreamWatch, body: bytes, cuts: list[int]) -> bytes:
    out, start = b"", 0
    for cut in [*sorted(c % (len(body) + 1) for c in cuts), len(body)]:
        out += watch.feed(body[start:cut])
        start = cut
    return out + watch.flush()


def test_there_are_captures_of_every_engine() -> None:
    assert {n.split("/")[0] for n in NAMES} >= {"vllm-0.32.0", "sglang-0.5.23", "llama.cpp-b11549"}
    assert len(STREAMS) > 30


@pytest.mark.parametrize("capture", STREAMS, ids=NAMES)
def test_bytes_survive_small_pieces(capture: captures.Capture) -> None:
    assert_cuts_change_nothing(capture, list(range(7, len(capture.body), 7)))


@examples(5)
@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 1 << 20), max_size=8))
def test_bytes_survive_any_split(capture: captures.Capture, cuts: list[int]) -> None:
    assert_cuts_change_nothing(capture, cuts)


def assert_cuts_change_nothing(capture: captures.Capture, cuts: list[int]) -> None:
    """Neither the bytes nor the verdict depend on how the stream is cut."""
    choices = 2 if "_n2" in capture.name else 1
    whole = StreamWatch(kind_of(capture.name), choices=choices)
    expected = watch_all(whole, capture.body, [])
    split = StreamWatch(kind_of(capture.name), choices=choices)
    assert watch_all(split, capture.body, cuts) == expected
    if whole.error is None:
        assert expected == capture.body
    assert (split.complete(framed=True), split.error, split.started) == (
        whole.complete(framed=True),
        whole.error,
        whole.started,
    )
    assert split.usage == whole.usage


@pytest.mark.parametrize("capture", STREAMS, ids=NAMES)
def test_a_real_stream_is_complete_exactly_when_it_was_not_broken(capture: captures.Capture) -> None:
    watch = StreamWatch(kind_of(capture.name), choices=2 if "_n2" in capture.name else 1)
    watch_all(watch, capture.body, [])
    broken = (
        any(e in capture.body for e in (b'"error":{', b'"error": {', b'"error": "'))
        or b'"error": {' in capture.body
        or not capture.framed
    )
    assert watch.complete(framed=capture.framed) is not broken


@pytest.mark.parametrize("engine", ["vllm-0.32.0", "sglang-0.5.23", "llama.cpp-b11549"])
def test_reported_usage_is_found(engine: str) -> None:
    capture = next(c for c in STREAMS if c.name == f"{engine}/chat_stream_usage")
    watch = StreamWatch(StreamKind.CHAT)
    watch_all(watch, capture.body, [])
    last = [orjson.loads(line[6:]) for line in capture.body.splitlines() if b'"usage":{' in line][-1]["usage"]
    assert watch.usage.reported
    assert (watch.usage.prompt_tokens, watch.usage.output_tokens) == (last["prompt_tokens"], last["completion_tokens"])


def test_usage_of_llamacpp_is_summed_over_choices() -> None:
    capture = next(c for c in STREAMS if c.name == "llama.cpp-b11549/chat_stream_n2")
    watch = StreamWatch(StreamKind.CHAT, choices=2, sum_usage=True)
    watch_all(watch, capture.body, [])
    told = [orjson.loads(line[6:])["usage"] for line in capture.body.splitlines() if b'"usage":{' in line]
    assert len(told) == 2
    assert watch.usage.output_tokens == sum(u["completion_tokens"] for u in told)
    assert watch.usage.prompt_tokens == told[0]["prompt_tokens"]


def test_role_and_comments_are_no_content() -> None:
    watch = StreamWatch(StreamKind.CHAT)
    assert watch.feed(b": keep-alive\n\n") == b": keep-alive\n\n"
    watch.feed(b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n')
    assert not watch.started
    watch.feed(b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n')
    assert watch.started
    assert watch.usage == Usage(output_tokens=1)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "tool_calls", "refusal"])
def test_other_deltas_are_content_too(field: str) -> None:
    watch = StreamWatch(StreamKind.CHAT)
    watch.feed(b'data: {"choices":[{"index":0,"delta":{"%b":"x"},"finish_reason":null}]}\n\n' % field.encode())
    assert watch.started


def test_text_of_the_model_cannot_end_its_own_stream() -> None:
    said = 'so: "finish_reason":"stop" and\ndata: [DONE]\n\n"error" {"error":{"code":500}}'
    event = (
        b"data: "
        + orjson.dumps({"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": None}]})
        + b"\n\n"
    )
    watch = StreamWatch(StreamKind.CHAT)
    assert watch.feed(event) + watch.feed(event) == event * 2
    assert watch.started
    assert not watch.complete(framed=True)
    assert watch.error is None


def test_an_error_followed_by_done_is_no_success_and_is_held_back() -> None:
    good = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    watch = StreamWatch(StreamKind.CHAT)
    out = watch.feed(good + b'data: {"error":{"message":"died","code":500}}\n\ndata: [DONE]\n\n')
    assert out == good
    assert watch.error == {"message": "died", "code": 500}
    assert watch.feed(good) == b""
    assert not watch.complete(framed=True)


def test_every_choice_must_finish() -> None:
    watch = StreamWatch(StreamKind.CHAT, choices=2)
    watch.feed(b'data: {"choices":[{"index":1,"delta":{},"finish_reason":"stop"}]}\n\n')
    assert not watch.complete(framed=False)
    watch.feed(b'data: {"choices":[{"index":0,"delta":{},"finish_reason": "length"}]}\n\n')
    assert watch.complete(framed=False)


def test_one_malformed_event_passes_through() -> None:
    watch = StreamWatch(StreamKind.CHAT)
    assert watch.feed(b"data: {nonsense\n\n") == b"data: {nonsense\n\n"
    assert watch.error is None


def test_a_giant_event_is_passed_on_in_parts() -> None:
    watch = StreamWatch(StreamKind.CHAT)
    first = b'data: {"choices":[{"delta":{"content":"' + b"x" * EVENT_LIMIT_BYTES
    assert watch.feed(first) == first
    assert watch.held_bytes == 0


@given(
    st.lists(st.sampled_from([b"\n", b"\r\n", b"\r", b"data: x", b": c", b'data: {"error":1}', b"id: 1"]), max_size=30)
)
def test_any_line_ending_any_order(parts: list[bytes]) -> None:
    body = b"".join(parts)
    watch = StreamWatch(StreamKind.OTHER)
    out = b"".join(watch.feed(body[i : i + 1]) for i in range(len(body))) + watch.flush()
    assert body.startswith(out)
    if watch.error is None:
        assert out == body


@pytest.mark.parametrize("usage", [None, 3, {}, {"prompt_tokens": "many"}, {"prompt_tokens": -1}])
def test_nonsense_is_no_usage(usage: object) -> None:
    assert read_usage(usage) is None


def test_usage_of_other_apis() -> None:
    assert read_usage({"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 3}) == Usage(8, 2, 3, True)
    assert read_usage({"prompt_tokens": 5, "total_tokens": 5}) == Usage(5, 0, None, True)


@pytest.mark.parametrize("apart", [False, True])
def test_an_event_of_two_lines_is_read_though_it_ends_like_those_before(apart: bool) -> None:
    token = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
    last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n: x,"finish_reason":null}]}\n\n'
    watch = StreamWatch(StreamKind.CHAT)
    for data in (token, token, last) if apart else (token, token + last):
        watch.feed(data)
    assert watch.complete(framed=True)
