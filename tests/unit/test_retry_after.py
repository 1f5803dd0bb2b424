"""When to come again, in every form in which backends say it."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.upstream.classify import end_in_band, end_of_answer
from router.upstream.retry_after import LONGEST_S, retry_after_s

WALL_S = 1_792_000_000.0  # Wed, 14 Oct 2026 17:46:40 GMT

HEADERS: list[tuple[dict[bytes, bytes], float | None]] = [
    ({b"retry-after": b"7"}, 7.0),
    ({b"retry-after": b" 7 "}, 7.0),
    ({b"retry-after": b"0"}, 0.0),
    ({b"retry-after": b"1.5"}, 1.5),
    ({b"retry-after": b".5"}, 0.5),
    ({b"retry-after": b"20ms"}, 0.02),
    ({b"retry-after": b"6m0s"}, 360.0),
    ({b"retry-after": b"99999999"}, LONGEST_S),
    ({b"retry-after": b"-3"}, None),
    ({b"retry-after": b"soon"}, None),
    ({b"retry-after": b""}, None),
    ({b"retry-after": b"nan"}, None),
    ({b"retry-after": b"inf"}, None),
    ({b"retry-after": b"Wed, 14 Oct 2026 17:46:50 GMT"}, 10.0),
    ({b"retry-after": b"Wednesday, 14-Oct-26 17:46:50 GMT"}, 10.0),
    ({b"retry-after": b"Wed Oct 14 17:46:50 2026"}, 10.0),
    ({b"retry-after": b"2026-10-14T17:46:50Z"}, 10.0),
    ({b"retry-after": b"Wed, 14 Oct 2026 17:00:00 GMT"}, 0.0),
    ({b"retry-after": b"Wed, 14 Oct 2026 17:46:50 GMT", b"date": b"Wed, 14 Oct 2026 17:46:45 GMT"}, 5.0),
    ({b"retry-after": b"1792000012"}, 12.0),
    ({b"retry-after-ms": b"250", b"retry-after": b"1"}, 0.25),
    ({b"retry-after-ms": b"250.5"}, 0.2505),
    ({b"retry-after-ms": b"0", b"retry-after": b"9"}, 0.0),
    ({b"x-ratelimit-reset-requests": b"6m0s", b"x-ratelimit-remaining-requests": b"0"}, 360.0),
    (
        {
            b"x-ratelimit-reset-requests": b"20ms",
            b"x-ratelimit-remaining-requests": b"50",
            b"x-ratelimit-reset-tokens": b"1m2.5s",
            b"x-ratelimit-remaining-tokens": b"0",
        },
        62.5,
    ),
    ({b"x-ratelimit-reset-requests": b"20ms", b"x-ratelimit-reset-tokens": b"6m0s"}, 0.02),
    ({b"anthropic-ratelimit-tokens-reset": b"2026-10-14T17:46:50Z", b"anthropic-ratelimit-tokens-remaining": b"0"}, 10.0),
    ({b"x-ratelimit-reset": b"1792000012000"}, 12.0),
    ({b"x-ratelimit-reset-requests": b"6m0s", b"retry-after": b"2"}, 2.0),
    ({}, None),
]  # fmt: skip

BODIES: list[tuple[object, float | None]] = [
    ({"error": {"details": [{"@type": "x"}, {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3.5s"}]}}, 3.5),
    ([{"error": {"details": [{"retryDelay": "30s"}]}}], 30.0),
    ({"error": {"message": "Rate limit reached. Please try again in 1m2.5s. Visit x", "code": "rate_limit_exceeded"}}, 62.5),
    ({"error": {"message": "Rate limit reached. Please try again in 20ms."}}, 0.02),
    ({"error": {"message": "Please retry after 6 seconds."}}, 6.0),
    ({"statusCode": 429, "message": "Rate limit is exceeded. Try again in 3 seconds."}, 3.0),
    ({"error": "Model x is currently loading", "estimated_time": 20.5}, 20.5),
    ({"error": {"retry_after": 4}}, 4.0),
    ({"error": {"retry_after_ms": 1500}}, 1.5),
    ({"error": {"metadata": {"headers": {"X-RateLimit-Limit": "1", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1792000012000"}}}}, 12.0),
    ({"error": {"retry_after": "1e99"}}, None),
    ({"error": {"retry_after": True}}, None),
    ({"error": {"message": "no"}}, None),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "wait_s"), HEADERS)
def test_headers(headers: dict[bytes, bytes], wait_s: float | None) -> None:
    assert retry_after_s(list(headers.items()), None, "", WALL_S) == pytest.approx(wait_s)


@pytest.mark.parametrize(("document", "wait_s"), BODIES)
def test_bodies(document: object, wait_s: float | None) -> None:
    text = str(orjson.dumps(document))
    assert retry_after_s([], document, text, WALL_S) == pytest.approx(wait_s)


def test_the_head_counts_before_the_body() -> None:
    assert retry_after_s([(b"retry-after", b"2")], {"error": {"retry_after": 9}}, "try again in 5s", WALL_S) == 2.0


def test_both_kinds_of_ends_carry_it() -> None:
    assert end_of_answer(429, [(b"retry-after", b"1.5")], b"").retry_after_s == 1.5
    assert end_in_band({"error": {"code": 503, "message": "try again in 2s"}}).retry_after_s == 2.0


NAMES = st.sampled_from(
    [b"retry-after", b"retry-after-ms", b"x-ratelimit-reset-tokens", b"x-ratelimit-remaining-tokens", b"date"]
)
VALUES = st.binary(max_size=40) | st.from_regex(r"[0-9a-zA-Z:., +-]{0,40}", fullmatch=True).map(str.encode)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "details", "retryDelay", "retry_after", "metadata", "headers"]), inner
        )
    ),
    max_leaves=10,
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), JSON, st.text(max_size=60))
def test_whatever_is_said_the_wait_is_bounded(headers: list[tuple[bytes, bytes]], document: object, text: str) -> None:
    wait_s = retry_after_s(headers, document, text, WALL_S)
    assert wait_s is None or 0.0 <= wait_s <= LONGEST_S
