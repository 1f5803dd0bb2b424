"""W3C trace context: what clients say, and what backends are told."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.traces import ClientSpan, Trace, parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01".encode()


@pytest.mark.parametrize(
    "value", [f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-ff", f"cc-{TRACE}-{SPAN}-00-what-the-future-brings"]
)
def test_a_traceparent_is_read(value: str) -> None:
    parent = parent_of(value.encode())
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == (TRACE, SPAN)
    assert parent.sampled == (value.split("-")[3] != "00")


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 1000,
    ],
)
def test_an_invalid_traceparent_is_ignored_with_its_state(value: str) -> None:
    assert parent_of(value.encode(), b"congo=t61rcWkgMzE") is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        (b" rojo=1 ,\t, tenant@vendor=a b!", b"rojo=1,tenant@vendor=a b!"),
        (b"0a*/-_=x", b"0a*/-_=x"),
        (b"rojo=1,rojo=2", b""),
        (b"Rojo=1", b""),
        (b"rojo=1=2", b""),
        (b"rojo", b""),
        (b"rojo= ", b""),
        (b"rojo=\x01", b""),
        (b",".join(b"k%d=v" % n for n in range(32)), b",".join(b"k%d=v" % n for n in range(32))),
        (b",".join(b"k%d=v" % n for n in range(33)), b""),
        (b"k=" + b"v" * 9000, b""),
    ],
)
def test_a_tracestate_is_kept_whole_or_not_at_all(state: bytes, kept: bytes) -> None:
    parent = parent_of(VALID, state)
    assert parent is not None
    assert parent.state == kept


def test_each_attempt_is_told_a_span_of_its_own() -> None:
    trace = Trace(ClientSpan(TRACE, SPAN, 1, b"rojo=1"), Random(1))
    first, second = object(), object()
    told = trace.lines(first)
    assert told == trace.lines(first), "sent twice, it is the same attempt"
    assert told.startswith(f"traceparent: 00-{TRACE}-".encode())
    assert told.endswith(b"-01\r\ntracestate: rojo=1\r\n")
    span_id = trace.ended(first)
    assert span_id.encode() in told
    assert len({span_id, trace.lines(second)[56:72].decode(), trace.span_id, SPAN}) == 4
    assert len(trace.ended(object())) == 16, "an attempt for which nothing was sent has a span, too"


@given(st.integers(0), st.floats(0, 1))
def test_a_new_trace_has_ids_that_others_accept(seed: int, share: float) -> None:
    trace = Trace(None, Random(seed), share=share)
    line = trace.lines(object())
    told = parent_of(line.removeprefix(b"traceparent: ").removesuffix(b"\r\n"))
    assert told is not None
    assert told.trace_id == trace.trace_id
    assert told.sampled == trace.sampled


def test_the_share_of_new_traces_is_sampled() -> None:
    rng = Random(7)
    sampled = sum(Trace(None, rng, share=0.1).sampled for _ in range(5000))
    assert 400 < sampled < 600
    assert not Trace(None, rng, share=0.0).sampled
    assert all(Trace(None, rng, share=1.0).sampled for _ in range(100))


@given(st.integers(0, 255))
def test_flags_that_mean_nothing_are_not_passed_on(flags: int) -> None:
    parent = parent_of(f"00-{TRACE}-{SPAN}-{flags:02x}".encode())
    assert parent is not None
    assert Trace(parent, Random(1), share=0.0).lines(1).endswith(b"-%02x\r\n" % (flags & 3))
