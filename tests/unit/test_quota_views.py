"""A limit as the admin API shows it: money has a future, all else has not."""

from __future__ import annotations

from router.config import Plan
from router.control.quota_views import quota
from router.store.base import Key, LimitState


def key(*, missing: bool = False) -> Key:
    plan = Plan("trial", budget_usd_month=100.0, requests_per_minute=5)
    return Key("key_1", "ci", "acme", plan, 0.0, revoked=False, plan_missing=missing)


BUDGET = LimitState("budget", 50.0, 20.0, 30.0, 86_400.0, "global")
RATE = LimitState("requests", 5, 1, 4, 12.0, "global")


def test_a_budget_has_a_forecast() -> None:
    budget, rate = quota(key(), [BUDGET, RATE], pace_usd_s=0.001)["limits"]
    assert (budget["forecast"], budget["pace_usd_per_day"]) == (20.0 + 86.4, 86.4)
    assert (budget["plan_max"], budget["max"]) == (100.0, 50.0)
    assert "forecast" not in rate


def test_a_pace_that_nobody_knows_forecasts_nothing() -> None:
    (budget,) = quota(key(), [BUDGET])["limits"]
    assert (budget["forecast"], budget["pace_usd_per_day"]) == (None, None)


def test_without_its_plan_a_key_has_no_limits() -> None:
    shown = quota(key(missing=True), [BUDGET])
    assert (shown["plan_missing"], shown["limits"]) == (True, [])
