"""The last minute: how much keys used, how many requests backends answered."""

from __future__ import annotations

from router.control.last_minute import requests_by_backend, used
from router.telemetry.journal import AttemptRecord, Record

NOW_S = 1_790_000_000.0


def record(ago_s: float, key: str | None = "key_1", **fields: object) -> Record:
    """A request that took two seconds and ended at that time."""
    made = Record("id", NOW_S - ago_s - 2.0, key_id=key, prompt_tokens=10, output_tokens=5, duration_s=2.0)
    made.attempts = [AttemptRecord("us/a", "us")]
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_only_the_last_minute_counts() -> None:
    records = [record(1.0), record(59.0), record(61.0), record(300.0)]
    assert used(records, NOW_S)["key_1"].document() == {"requests": 2, "tokens": 30, "refused": 0}
    assert requests_by_backend(records, NOW_S) == {"us/a": 2}


def test_keys_are_counted_apart() -> None:
    uses = used([record(1.0), record(2.0, "key_2"), record(3.0, None)], NOW_S)
    assert {key: use.requests for key, use in uses.items()} == {"key_1": 1, "key_2": 1}


def test_what_was_refused_is_not_used() -> None:
    over = record(1.0, limit="tokens", cause="refused", attempts=[])
    no_place = record(2.0, cause="refused", attempts=[])
    assert used([over, no_place], NOW_S)["key_1"].document() == {"requests": 0, "tokens": 0, "refused": 1}
    assert requests_by_backend([over, no_place], NOW_S) == {}


def test_a_failed_request_is_used_and_answered() -> None:
    assert used([record(1.0, cause="server_error")], NOW_S)["key_1"].requests == 1
