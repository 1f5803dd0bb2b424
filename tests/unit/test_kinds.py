"""Kinds: who is folded together with whom."""

from __future__ import annotations

from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.kinds import kinds_of


def record(**changes: object) -> Record:
    made = Record("id", 0.0, model="m", status=200, prompt_tokens=10, output_tokens=2, ttft_s=0.5)
    made.attempts = [AttemptRecord("us/a", "us", 0.0, "ok")]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_times_and_tokens_make_no_kind() -> None:
    records = [record(), record(prompt_tokens=20, ttft_s=None, duration_s=3.0), record(request_id="other")]
    first, *others = kinds_of(records)
    assert all(kind is first for kind in others)
    assert first.records == records
    assert (first.prompt_tokens, first.output_tokens, first.ttfts_s) == (40, 6, [0.5, 0.5])


def test_whatever_is_looked_up_or_written_makes_a_kind() -> None:
    changes: list[dict[str, object]] = [
        {"model": "other"},
        {"served_model": "other"},
        {"tenant": "other"},
        {"method": "-"},
        {"path": "/v1/other"},
        {"stream": True},
        {"status": 500},
        {"error": "internal"},
        {"cause": "refused"},
        {"attempts": []},
        {"attempts": [AttemptRecord("us/b", "us", 0.0, "ok")]},
        {"attempts": [AttemptRecord("us/a", "us", 0.0, "truncated")]},
        {"attempts": [AttemptRecord("us/a", "us", 0.0, "ok", kind="retry")]},
    ]
    kinds = kinds_of([record(), *(record(**change) for change in changes)])
    assert len(set(kinds)) == len(kinds)


def test_every_attribute_is_the_record_s() -> None:
    one = record(stream=True, error="internal", cause="refused", served_model="n", tenant="t", path="/v1/x")
    (kind,) = kinds_of([one])
    for name in ("model", "served_model", "tenant", "method", "path", "stream", "status", "error", "cause"):
        assert getattr(kind, name) == getattr(one, name)
    assert (kind.attempts, kind.backend, kind.region, kind.outcome) == (1, "us/a", "us", "ok")
