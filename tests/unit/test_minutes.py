"""Counts of a day by the minute: nothing is lost, memory is bounded, any grouping adds up."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.kinds import kinds_of
from router.telemetry.minutes import GROUPS, KEPT_S, ROWS_MAX, Minutes, document, merged


class Time:
    now_s = 100_000.0


def minutes(time: Time | None = None) -> tuple[Minutes, Time]:
    time = time or Time()
    made = Minutes(lambda: time.now_s)
    return made, time


def record(number: int = 0, **changes: Any) -> Record:
    made = Record(f"r{number}", 0.0, model="m", served_model="m", status=200, key_id="key_1", tenant="acme")
    made.attempts = [AttemptRecord("us/a", "us")]
    made.prompt_tokens, made.output_tokens, made.ttft_s = 100, 10, 0.5
    for name, value in changes.items():
        setattr(made, name, value)
    made.cost_usd = (2 * made.prompt_tokens + 10 * made.output_tokens) / 1e6
    return made


def fold(made: Minutes, *records: Record) -> None:
    for kind in dict.fromkeys(kinds_of(records)):
        made.fold(kind)


def test_requests_are_counted_by_what_is_asked_and_sorted_by_cost() -> None:
    made, _ = minutes()
    fold(made, record(1), record(2, key_id="key_2", output_tokens=1000), record(3, status=502, cause="server_error"))
    shown = document(made.usage(3600, ("key",)), 3600, ("key",), "cost")
    assert [(row["key"], row["requests"]) for row in shown["data"]] == [("key_2", 1), ("key_1", 2)]
    assert shown["data"][0]["cost_usd"] == (2 * 100 + 10 * 1000) / 1e6
    assert (shown["total"]["requests"], shown["total"]["errors"]) == (3, 1)
    assert 0.4 < shown["total"]["ttft_s"]["p50"] < 0.6
    by_two = document(made.usage(3600, ("region", "outcome")), 3600, ("region", "outcome"), "requests")
    assert [(row["region"], row["outcome"]) for row in by_two["data"]] == [("us", "ok"), ("us", "server_error")]


def test_an_answer_that_no_backend_gave_costs_nothing() -> None:
    made, _ = minutes()
    fold(made, record(attempts=[], cause="refused", status=429, ttft_s=None))
    shown = document(made.usage(60, ("backend",)), 60, ("backend",), "requests")
    assert (shown["data"][0]["backend"], shown["data"][0]["cost_usd"]) == (None, 0.0)


def test_it_looks_back_a_day_and_no_further() -> None:
    made, time = minutes()
    for hour in range(30):
        time.now_s = 100_000.0 + 3600 * hour
        fold(made, record(hour))
    assert made.usage(3600, ("model",))["m",].tally.requests == 2
    assert made.usage(KEPT_S, ("model",))["m",].tally.requests == 25
    assert len(made._past) == 29
    for minute in range(2000):
        time.now_s += 60
        fold(made, record(minute))
    assert len(made._past) == KEPT_S // 60


def test_a_minute_has_a_bounded_number_of_rows_and_loses_no_request() -> None:
    made, _ = minutes()
    fold(made, *(record(i, key_id=f"key_{i}") for i in range(3 * ROWS_MAX)))
    found = made.usage(60, ("key",))
    assert len(found) == ROWS_MAX + 1
    assert found["other",].tally.requests == 2 * ROWS_MAX
    assert sum(spent.tally.requests for spent in found.values()) == 3 * ROWS_MAX


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 600), st.integers(0, 50)), max_size=30
    ),
    st.permutations(GROUPS),
    st.integers(1, 6),
)
def test_every_grouping_adds_up_to_the_same(told: list[tuple[str, str, int, int]], groups: list[str], n: int) -> None:
    made, time = minutes()
    other, _ = minutes(time)
    for number, (tenant, key, at_s, output) in enumerate(sorted(told, key=lambda t: t[2])):
        time.now_s = 100_000.0 + at_s
        fold(other if number % 2 else made, record(number, tenant=tenant, key_id=key, output_tokens=output))
    by = tuple(groups[:n])
    usage = merged([made.usage(3600, by), other.usage(3600, by)])
    shown = document(usage, 3600, by, "tokens")
    assert shown["total"]["requests"] == len(told) == sum(row["requests"] for row in shown["data"])
    assert shown["total"]["output_tokens"] == sum(output for _, _, _, output in told)
    assert round(shown["total"]["cost_usd"] * 1e6) == sum(200 + 10 * output for _, _, _, output in told)
