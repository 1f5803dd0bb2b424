"""The short form of ``python -m bench.quota``: five routers, three of them an ocean away, sell no more than the limit."""

from __future__ import annotations

import asyncio

import pytest

from bench.quota import cost
from bench.quota.__main__ import run
from bench.quota.fleet import server


@pytest.mark.parametrize(("kind", "least"), [("requests", 0.9), ("budget", 0.75), ("concurrent", 0.5)])
def test_five_routers_sell_the_limit_and_no_more(kind: str, least: float) -> None:
    """Through the end of a router and of all scripts. Of a budget a dead router keeps what it held. Places move to
    another region in a second, which is much of this short form."""
    result = run(1.5, (kind,), 0.0)["rounds"][kind]
    assert result["admitted"] <= result["allowed"]
    assert result["share"] >= least


def test_the_price_at_the_store_is_measured() -> None:
    with server() as port:
        weights = {name: cost.weigh(port, plan, 2000) for name, plan in cost.PLANS.items()}
        found = asyncio.run(cost.questions(port, 1.0))
    assert all(100 < row["idle"] <= 300 for row in weights.values()), weights
    assert found["admitted"] == pytest.approx(cost.RATE, rel=0.05)
    assert 0 < found["scripts"] < 1
