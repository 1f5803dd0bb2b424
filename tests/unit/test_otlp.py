"""OTLP as bytes: what is written reads back, by a decoder of the tests' own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.otlp import (
    PartialSuccess,
    Span,
    SpanKind,
    StatusCode,
    Value,
    read_response,
    request_bytes,
    span_bytes,
)
from tests.support.collector import read

VALUES: st.SearchStrategy[Value | None] = st.one_of(
    st.none(),
    st.text(max_size=30),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=5), max_size=4).map(tuple),
)
SPANS = st.builds(
    Span,
    trace_id=st.binary(min_size=16, max_size=16).map(bytes.hex),
    span_id=st.binary(min_size=8, max_size=8).map(bytes.hex),
    parent_id=st.one_of(st.just(""), st.binary(min_size=8, max_size=8).map(bytes.hex)),
    name=st.text(max_size=200),
    kind=st.sampled_from(SpanKind),
    start_ns=st.integers(0, 2**63),
    end_ns=st.integers(0, 2**63),
    attributes=st.dictionaries(st.text(min_size=1, max_size=10), VALUES, max_size=6),
    status=st.sampled_from(StatusCode),
    message=st.text(max_size=20),
    trace_state=st.sampled_from(["", "rojo=1"]),
    flags=st.integers(0, 3),
    remote_parent=st.booleans(),
)


@given(st.lists(SPANS, max_size=4))
def test_spans_read_back(spans: list[Span]) -> None:
    body = request_bytes({"service.name": "s"}, "scope", "1.2", map(span_bytes, spans))
    resource, scope, found = read(body)
    assert (resource, scope) == ({"service.name": "s"}, ("scope", "1.2"))
    assert len(found) == len(spans)
    for span, told in zip(spans, found, strict=True):
        assert (told.trace_id, told.span_id, told.parent_id) == (span.trace_id, span.span_id, span.parent_id)
        assert (told.name, told.kind, told.start_ns, told.end_ns) == (span.name, span.kind, span.start_ns, span.end_ns)
        want = {k: list(v) if isinstance(v, tuple) else v for k, v in span.attributes.items() if v is not None}
        assert told.attributes == want
        assert (told.status, told.message, told.trace_state) == (span.status, span.message, span.trace_state)
        assert told.flags == span.flags | 0x100 | (0x200 if span.remote_parent else 0)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x0a\x0c\x08\xac\x02\x12\x07too old", PartialSuccess(300, "too old")),
        (b"\x0a\x09\x12\x07careful", PartialSuccess(0, "careful")),
        (b"\x0a\x00", PartialSuccess()),
        (b"\x9a\x01\x01x\x0a\x02\x08\x01", PartialSuccess(1)),
    ],
)
def test_a_partial_success_is_read(data: bytes, said: PartialSuccess) -> None:
    assert read_response(data) == said


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05\x08", b"\x0b", b"\x08" + b"\xff" * 11, b"<html>"])
def test_what_is_no_response_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        read_response(data)


def test_an_empty_response_is_a_whole_success() -> None:
    assert read_response(b"") == PartialSuccess()


@given(st.binary(max_size=50))
def test_whatever_a_collector_says_is_read_or_refused(data: bytes) -> None:
    try:
        assert read_response(data).rejected >= 0
    except ValueError:
        pass
