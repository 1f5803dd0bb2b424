"""The short form of ``python -m bench.quota``: five routers, three of them an ocean away, sell no more than the limit."""

from __future__ import annotations

import pytest

from bench.quota.__main__ import run


@pytest.mark.parametrize(("kind", "least"), [("requests", 0.9), ("budget", 0.75)])
def test_five_routers_sell_the_limit_and_no_more(kind: str, least: float) -> None:
    """Through the end of a router and of all scripts. Of a budget a dead router keeps what it held."""
    result = run(1.5, (kind,), 0.0)["rounds"][kind]
    assert result["admitted"] <= result["allowed"]
    assert result["share"] >= least
