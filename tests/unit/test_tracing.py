"""Which requests are traced, and which are exported."""

from __future__ import annotations

from random import Random

import pytest

from router.config import TracingSection
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.traces import ClientSpan
from router.telemetry.tracing import BATCH_MAX, QUEUE_MAX, Tracing

ON = "http://collector:4318"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def tracing(**section: object) -> Tracing:
    made = Tracing(Random(3))
    made.apply(TracingSection(collector=ON, **section))  # type: ignore[arg-type]
    return made


def record(t: Tracing, parent: ClientSpan | None = None, **changes: object) -> Record:
    made = Record("id", 1000.0, model="m", status=200, stream=True, ttft_s=0.1, duration_s=9.0, trace=t.begin(parent))
    made.attempts = [AttemptRecord("us/a", "us", 0.0, "ok")]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_off_is_the_default() -> None:
    t = Tracing()
    assert not t.on
    assert not list(t.samples())
    t.apply(TracingSection())
    assert not t.on


@pytest.mark.parametrize(
    ("why", "changes", "kept"),
    [
        ("ordinary", {}, False),
        ("a slow first token", {"ttft_s": 5.0}, True),
        ("a slow whole answer", {"stream": False, "ttft_s": None, "duration_s": 6.0}, True),
        ("a stream that is long and not slow", {"duration_s": 600.0}, False),
        ("a failure", {"status": 502, "error": "upstream_error", "cause": "server_error"}, True),
        ("a stream that was cut", {"error": "stream_interrupted", "cause": "truncated"}, True),
        ("a client's mistake", {"status": 400, "error": "invalid_request", "cause": "refused"}, False),
        (
            "a limit that is used up",
            {"status": 429, "error": "quota_exhausted", "cause": "refused", "limit": "tokens"},
            False,
        ),
        ("a client that left", {"error": "client_gone", "cause": "client_gone"}, False),
        (
            "a retry that the client has not seen",
            {"attempts": [AttemptRecord("us/a", "us", 0.0, "unreachable"), AttemptRecord("us/b", "us", 0.1, "ok")]},
            True,
        ),
    ],
)
def test_what_is_kept_whatever_the_share(why: str, changes: dict[str, object], kept: bool) -> None:
    t = tracing(sample=0.0)
    t.offer([record(t, **changes)])
    assert bool(t.queue) == kept, why


def test_a_share_of_the_ordinary_ones_is_kept() -> None:
    t = tracing(sample=0.1)
    t.offer([record(t) for _ in range(3000)])
    assert 200 < len(t.queue) < 400


def test_a_client_decides_for_its_own_trace() -> None:
    t = tracing(sample=1.0)
    t.offer([record(t, ClientSpan(TRACE, SPAN, 0), status=502, error="upstream_error", cause="server_error")])
    assert not t.queue, "the client does not record this trace: a span of it would hang in the air"
    t = tracing(sample=0.0)
    t.offer([record(t, ClientSpan(TRACE, SPAN, 1))])
    assert len(t.queue) == 1


def test_what_began_before_it_was_switched_on_has_no_trace() -> None:
    t = tracing()
    t.offer([record(t, trace=None)])
    assert not t.queue


def test_the_queue_is_bounded_and_says_what_it_lost() -> None:
    t = tracing()
    t.news.clear()
    t.offer([record(t) for _ in range(BATCH_MAX - 1)])
    assert not t.news.is_set()
    t.offer([record(t) for _ in range(QUEUE_MAX - BATCH_MAX + 11)])
    assert t.news.is_set()
    assert len(t.queue) == QUEUE_MAX
    assert t.dropped == {"queue_full": 20}
    samples = {(s.name, s.labels): s.value for s in t.samples()}
    assert samples["router_spans_dropped_total", ("queue_full",)] == 20
    assert samples["router_spans_sent_total", ()] == 0
