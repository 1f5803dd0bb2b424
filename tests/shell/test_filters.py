"""Which requests an operator asks for: values that nothing has are errors with a suggestion, the rest is counted."""

from __future__ import annotations

import pytest

from router.control.filters import ORDERS, SUMMARY_ORDERS
from tests.support.control import Admin, record

LIST = "/admin/v1/requests"


async def ids(admin: Admin, query: str) -> list[str]:
    return [r["request_id"] for r in (await admin.get(f"{LIST}?{query}"))["data"]]


@pytest.mark.parametrize(
    ("query", "suggestion"),
    [
        ("model=mm", 'did you mean "m"?'),
        ("model=zzz", "There are: m, n."),
        ("backend=us-east/x", 'did you mean "us-east/'),
        ("region=us-eats", 'did you mean "us-east"?'),
        ("tenant=nobody", "There are: acme."),
        ("key=key_none", "There is no key"),
        ("status=9xx", "A status is like 200 or 5xx."),
        ("status=0xx", "A status is like 200 or 5xx."),
        ("slower_than_s=-1", "must be a number"),
        ("slower_than_s=x", "must be a number"),
        ("sort=tttf", 'did you mean "ttft"?'),
    ],
)
async def test_what_nothing_has_is_an_error_with_a_suggestion(admin: Admin, query: str, suggestion: str) -> None:
    await admin.post("/admin/v1/keys", {"name": "ci", "tenant": "acme"}, 201)
    refused = (await admin.get(f"{LIST}?{query}", 400))["error"]
    assert refused["param"] == query.split("=")[0]
    assert suggestion in refused["message"]
    if not query.startswith("sort"):
        assert (await admin.get(f"{LIST}/tail?{query}", 400))["error"]["param"] == refused["param"]


async def test_what_a_kept_request_had_is_no_error(admin: Admin) -> None:
    """The backend was removed, the model never was there, the tenant's key is of another store."""
    admin.control.telemetry.request_done(record(0, model="typo", served_model=None, tenant="old", key_id="key_old"))
    for query in ("model=typo", "tenant=old", "key=key_old"):
        assert await ids(admin, query) == ["req-0"]


async def test_filters_and_orders(admin: Admin) -> None:
    times = [(0.1, 9.0), (2.0, 3.0), (None, 5.0), (0.5, 0.6)]
    for number, (ttft_s, duration_s) in enumerate(times):
        admin.control.telemetry.request_done(record(number, ttft_s=ttft_s, duration_s=duration_s))
    assert await ids(admin, "slower_than_s=1") == ["req-2", "req-1"], "a whole answer counts as a whole"
    assert await ids(admin, "slower_than_s=1&sort=ttft") == ["req-1", "req-2"]
    assert await ids(admin, "sort=ttft&limit=2") == ["req-1", "req-3"]
    assert await ids(admin, "sort=duration") == ["req-0", "req-2", "req-1", "req-3"]
    assert await ids(admin, "region=us-east&limit=1") == ["req-3"]
    assert await ids(admin, "region=eu-west") == [], "its last attempt counts"


async def test_it_says_how_many_there_are(admin: Admin) -> None:
    for number in range(7):
        admin.control.telemetry.request_done(record(number, status=503 if number % 2 else 200))
    found = await admin.get(f"{LIST}?status=5xx&limit=2")
    assert (len(found["data"]), found["matching"]) == (2, 3)


def test_workers_are_put_together_in_the_same_orders() -> None:
    assert set(SUMMARY_ORDERS) == set(ORDERS)
