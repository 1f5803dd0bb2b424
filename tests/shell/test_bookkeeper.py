"""Thresholds of budgets: announced once, with log, history, metrics and webhook, also when the store was away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from router import clock
from router.config import Config, parse
from router.control.bookkeeper import Bookkeeper
from router.core.periods import DAY, MONTH, Period
from router.core.spending import Crossing, Spender, Sums
from router.store.courier import LinkError
from router.store.spend_book import Batch, MemorySpendBook, day_at
from router.telemetry.counters import Metrics
from router.telemetry.history import History
from router.telemetry.journal import Journal, Record
from router.telemetry.labels import Labels
from router.telemetry.sink import Telemetry
from router.telemetry.stats import Stats
from tests.support.receiver import SECRET, Receiver
from tests.support.shared_store import SharedStore

TOML = """
[plans.default]
[plans.trial]
budget_usd_month = 10.0
[tenants.acme]
budget_usd_day = 4.0
[models.chat]
targets = [{ model = "m" }]
budget_usd_month = 2.0
[all]
budget_usd_day = 1000.0
"""


class AwayBook(MemorySpendBook):
    away = False

    async def add(self, batch: Batch, now_s: float) -> list[tuple[Period, Crossing]]:
        if self.away:
            raise LinkError("the store is away")
        return await super().add(batch, now_s)


class Desk:
    """A bookkeeper with everything around it."""

    def __init__(self, text: str = TOML, store: SharedStore | None = None) -> None:
        self.config: Config = parse(text, "test")
        self.store = store or SharedStore()
        self.book = AwayBook()
        self.store.spending = self.book
        labels = Labels(lambda: ["m", "chat"], clock.monotonic_s)
        self.telemetry = Telemetry(Journal(100), Metrics(labels), Stats(labels, clock.monotonic_s))
        self.history = History("edge")
        self.keeper = Bookkeeper(self.store, self.telemetry, self.history, lambda: self.config)

    def spend(self, usd: float, **changes: Any) -> None:
        asked = {"model": "m", "served_model": "m", "tenant": "bob", "key_id": "key_1", "plan": "trial", "status": 200}
        self.telemetry.request_done(Record("r", clock.wall_s(), cost_usd=usd, **(asked | changes)))

    def refuse(self, limit: str, **changes: Any) -> None:
        why = {"error": "quota_exhausted", "cause": "refused", "status": 429, "limit": limit, "served_model": None}
        self.spend(0.0, **(why | changes))

    def told(self) -> list[tuple[str, str | None]]:
        return [(o.subject, o.after) for o in self.history.list() if o.kind == "budget"][::-1]


@asynccontextmanager
async def with_webhook(desk: Desk, receiver: Receiver) -> AsyncIterator[None]:
    desk.config = parse(TOML + f'[alerts]\nwebhook = "{receiver.url}"\nsecret_env = "MERIDIAN_HOOK"\n', "test")
    await desk.keeper.start()
    try:
        yield
    finally:
        await desk.keeper.stop()


async def test_a_key_reaches_its_thresholds(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    with caplog.at_level(logging.INFO):
        for usd in (4.9, 0.0, 0.2, 2.0, 2.0, 5.0):
            desk.spend(usd)
            await desk.keeper.flush()
    assert desk.told() == [("key_1", "50 %"), ("key_1", "80 %"), ("key_1", "100 %")]
    assert '50 % of the budget of key "key_1" are used: $5.10 of $10.00 this month' in caplog.text
    samples = {s.labels: s.value for s in desk.keeper.samples()}
    assert samples == {("key", "month", percent): 1 for percent in ("50", "80", "100")}


async def test_each_account_of_a_request_has_its_own_thresholds() -> None:
    desk = Desk()
    desk.spend(2.5, model="chat", tenant="acme")
    await desk.keeper.flush()
    assert sorted(desk.told()) == [
        ("model:chat", "100 %"),
        ("model:chat", "50 %"),
        ("model:chat", "80 %"),
        ("tenant:acme", "50 %"),
    ]
    assert (await desk.book.rows(DAY, day_at(clock.wall_s()))) == {
        Spender("acme", "key_1", "trial", "m"): Sums(1, 0, 0, 2_500_000)
    }


async def test_a_refused_request_announces_a_budget_only_when_almost_all_of_it_is_spent() -> None:
    desk = Desk()
    for usd in (0.3, 6.7, 2.3):
        desk.spend(usd)
        desk.refuse("budget", limit_scope="key", limit_of="alice", limit_never=usd > 2.0)
        await desk.keeper.flush()
    assert desk.told() == [("key_1", "50 %"), ("key_1", "80 %")], "3, 70 and 93 %"
    desk.refuse("budget", limit_scope="key", limit_of="alice")
    desk.refuse("requests", limit_scope="all", limit_of="all")
    await desk.keeper.flush()
    assert desk.told() == [("key_1", "50 %"), ("key_1", "80 %"), ("key_1", "100 %")]
    assert "$9.30 of $10.00 this month, and a request did not fit into the rest" in str(desk.history.list()[0].why)


async def test_a_raised_budget_is_announced_again() -> None:
    desk = Desk()
    desk.spend(10.0)
    await desk.keeper.flush()
    desk.config = parse(TOML.replace("budget_usd_month = 10.0", "budget_usd_month = 20.0"), "test")
    for usd in (0.5, 6.0, 4.0):
        desk.spend(usd)
        await desk.keeper.flush()
    assert [percent for _, percent in desk.told()] == ["50 %", "80 %", "100 %", "80 %", "100 %"]
    assert "$20.50 of $20.00" in str(desk.history.list()[0].why)


async def test_costs_wait_for_a_store_that_is_away_and_count_once() -> None:
    desk = Desk()
    desk.book.away = True
    for _ in range(3):
        desk.spend(3.0)
        await desk.keeper.flush()
    assert desk.told() == []
    desk.book.away = False
    await desk.keeper.flush()
    assert desk.told() == [("key_1", "50 %"), ("key_1", "80 %")]
    month = MONTH.number(int(clock.wall_s() * 1e6))
    assert sum(sums.microusd for sums in (await desk.book.rows(MONTH, month)).values()) == 9_000_000


async def test_the_webhook_hears_who_when_and_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERIDIAN_HOOK", SECRET)
    desk = Desk()
    key, _ = await desk.store.create_key("alice", "trial", "bob")
    with Receiver() as receiver:
        async with with_webhook(desk, receiver):
            desk.spend(9.0, key_id=key.id)
            await desk.keeper.flush()
        assert not receiver.bad
        assert _summaries(receiver.got) == [("budget.threshold", 50), ("budget.threshold", 80)]
        told = receiver.got[0]["data"]
        assert (told["account"], told["scope"], told["name"], told["tenant"]) == (key.id, "key", "alice", "bob")
        assert (told["period"], told["plan"], told["spent_usd"], told["limit_usd"]) == ("month", "trial", 9.0, 10.0)
        assert told["text"].startswith('50 % of the budget of key "alice" are used: $9.00 of $10.00 this month')
        assert told["resets_at"].endswith("-01T00:00:00.000Z")
        assert receiver.got[0]["router"] == "edge"
    assert next(s for s in desk.keeper.samples() if s.name == "router_webhooks_total").value == 2


def _summaries(got: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(document["type"], document["data"]["percent"]) for document in got]


async def test_a_refusal_is_told_again_when_other_routers_have_written_what_they_spent() -> None:
    """It came before their spending was in the book, and none comes after it."""
    one, two = Desk(), Desk()
    two.store.spending = one.book
    one.spend(8.5)
    one.refuse("budget", limit_scope="key")
    await one.keeper.flush()
    two.spend(1.0)
    await two.keeper.flush()
    full = ("key_1", "100 %")
    assert full not in one.told() + two.told()
    await one.keeper.start()
    async with asyncio.timeout(30):
        while full not in one.told():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await one.keeper.stop()
    assert one.told().count(full) == 1
