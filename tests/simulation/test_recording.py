"""The requests that met at a backend, as a journal tells."""

from __future__ import annotations

from typing import Any

import pytest

from sim.recording import read_recording


def record(sent_s: float, first_s: float | None, ended_s: float, tokens: int = 100, **fields: Any) -> dict[str, Any]:
    attempt = {"backend": "us-east/a", "outcome": "ok", "started_s": 0.0, "duration_s": ended_s - sent_s}
    attempt["ttft_s"] = None if first_s is None else first_s - sent_s
    return {
        "arrival_s": sent_s,
        "attempts": [attempt],
        "ttft_s": attempt["ttft_s"],
        "duration_s": ended_s - sent_s,
        "prompt_tokens": tokens,
        "output_tokens": 11,
        "cached_tokens": 40,
        "policy": "ttft",
        **fields,
    }


def test_who_met_whom() -> None:
    first = record(10.0, 11.0, 21.0)
    beside = record(12.0, 13.0, 17.0, tokens=200)
    behind = record(12.5, 14.0, 16.0)
    found = read_recording([behind, beside, first])  # a journal is in the order of ends
    one, two, three = found.served
    assert (one.decoding, one.ahead_tokens) == (0, 0)
    assert (two.decoding, two.ahead_tokens) == (1, 0)
    assert (three.decoding, three.ahead_tokens) == (1, 160)
    assert one.beside == pytest.approx((4.0 + 2.0) / 10.0)
    assert one.stalling_tokens == 160 + 60
    assert two.stalling_tokens == 60
    assert found.by_backend == {"us-east/a": 3}
    assert (found.span_s, found.prompt_tokens, found.cached_tokens) == (2.5, 400, 120)


def test_what_counts() -> None:
    failed = record(1.0, None, 2.0, error="no_backend", output_tokens=0)
    refused = record(1.0, None, 1.0, limit="requests_per_minute", error="rate_limited", attempts=[])
    whole = record(1.0, None, 3.0)
    twice = record(1.0, 2.0, 3.0)
    twice["attempts"] = [{"backend": "us-east/b", "outcome": "unreachable"}, *twice["attempts"]]
    found = read_recording([failed, refused, whole, twice])
    assert (found.requests, found.failed, found.refused, found.retried) == (3, 1, 1, 1)
    assert len(found.durations_s) == 2
    assert found.ttfts_s == [1.0]
    assert [s.first_s for s in found.served] == [None], "of one that was tried again nobody knows how long each took"
    with pytest.raises(ValueError, match="no record"):
        read_recording([{"attempts": [{}]}])
