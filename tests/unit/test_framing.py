"""core/framing.py and the watch above it against a small reference parser of server-sent events (WHATWG HTML 9.2)."""

from __future__ import annotations

import itertools
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.framing import begins_a_stream, end_of_events, end_of_run, events_of, fields_of
from router.core.sse import StreamKind, StreamWatch

END = st.sampled_from([b"\n", b"\r\n", b"\r"])
VALUE = st.sampled_from([b"", b" ", b"x", b" x", b"  x", b'{"a":1}', b" a:b", b"\xc3\xa9", b" [DONE]"])
LINE = st.one_of(
    st.builds(lambda value: b"data:" + value, VALUE),
    st.sampled_from(
        [b"data", b"", b": comment", b":", b"event: x", b"event:x", b"event", b"id: 1", b"retry: 5", b"other"]
    ),
)
STREAM = st.builds(
    lambda bom, lines: (b"\xef\xbb\xbf" if bom else b"") + b"".join(line + end for line, end in lines),
    st.booleans(),
    st.lists(st.tuples(LINE, END), max_size=16),
)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def reference(stream: bytes) -> list[tuple[bytes, bytes]]:
    """The events that the standard dispatches, as (type, data); those without data are left out."""
    events, name, data = [], b"", []
    *lines, _unfinished = re.split(rb"\r\n|\n|\r", stream.removeprefix(b"\xef\xbb\xbf"))
    for line in lines:
        if not line:
            if any(data):
                events.append((name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value.startswith(b" ") else value
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    marks = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[a:b] for a, b in itertools.pairwise(marks)]


@given(stream=STREAM, cuts=CUTS)
def test_events_are_those_of_the_standard_however_the_stream_is_cut(stream: bytes, cuts: list[int]) -> None:
    seen, buffer = [], b""
    for piece in pieces(stream, cuts):
        buffer += piece
        end = end_of_events(buffer, len(buffer) - len(piece))
        seen += events_of(buffer[:end])
        buffer = buffer[end:]
    assert b"".join(seen) + buffer == stream
    if seen:
        seen[0] = seen[0].removeprefix(b"\xef\xbb\xbf")
    found = [(name, b"\n".join(data)) for name, data in map(fields_of, seen) if any(data)]
    assert found == reference(stream)


TOKEN = st.builds(
    lambda text: {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}, st.text()
)
STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


@given(
    tokens=st.lists(TOKEN, min_size=1, max_size=4),
    end=END,
    colon=st.sampled_from([b"data:", b"data: "]),
    noise=st.sampled_from([b"", b": ping", b"event: message", b"id: 7"]),
    cuts=CUTS,
    finished=st.booleans(),
    bom=st.booleans(),
)
def test_the_verdict_of_a_stream_does_not_depend_on_its_framing(
    tokens: list[dict[str, object]], end: bytes, colon: bytes, noise: bytes, cuts: list[int], finished: bool, bom: bool
) -> None:
    said = any(token["choices"][0]["delta"]["content"] for token in tokens)  # type: ignore[index]
    documents = [*tokens, STOP] if finished else tokens
    lines = [((noise + end) if noise else b"") + colon + orjson.dumps(d) + end * 2 for d in documents]
    stream = (b"\xef\xbb\xbf" if bom else b"") + b"".join(lines)
    watch = StreamWatch(StreamKind.CHAT)
    out = b"".join(watch.feed(piece) for piece in pieces(stream, cuts)) + watch.flush()
    assert out == stream
    assert watch.complete(framed=True) is finished
    assert watch.started is (said or finished)


@pytest.mark.parametrize(
    ("begin", "is_stream"),
    [
        (b"data: {}", True),
        (b"data:{}", True),
        (b": ping", True),
        (b"event: x", True),
        (b"\xef\xbb\xbfdata: x", True),
        (b"\r\n\ndata: x", True),
        (b'error: {"code":500}', True),
        (b'{"data":1}', False),
        (b"[1]", False),
        (b"database: x", False),
        (b"", False),
    ],
)
def test_a_stream_is_known_by_its_beginning(begin: bytes, is_stream: bool) -> None:
    assert begins_a_stream(begin) is is_stream


def test_events_without_an_empty_line_between_them_are_read_when_they_end() -> None:
    watch = StreamWatch(StreamKind.CHAT)
    token = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n'
    stream = token * 2 + b"data: " + orjson.dumps(STOP) + b"\ndata: [DONE]\n"
    assert watch.feed(stream) + watch.flush() == stream
    assert watch.complete(framed=True)


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (b"a}\n\nb}\n\n", 0, 8),
        (b"a}\n\nb}\n\nc", 0, 8),
        (b"a}\n\nb}\n\nc]\n\n", 0, 8),
        (b"a]\n\nb}\n\n", 0, 0),
        (b"a]\n\nb}\n\n", 4, 8),
        (b"a\nb}\n\n", 0, 0),
        (b"a}\n\nb}\r\n\r\n", 0, 0),
        (b"a]\n\n", 0, 0),
        (b"", 0, 0),
    ],
)
def test_a_run_is_of_events_with_one_ending(data: bytes, start: int, end: int) -> None:
    assert end_of_run(data, start, b"}\n\n") == end
