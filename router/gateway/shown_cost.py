"""The header ``x-router-cost``: what a whole answer costs, where the plan of its key shows it.

A stream's cost is known when its head has long been sent, and so is that of an answer that is passed on as it comes:
neither has the header.
"""

from __future__ import annotations

from router.core.limits import MICRO
from router.core.prices import Leg, PriceList
from router.gateway.exchange import Exchange
from router.gateway.relay import Relay


def cost_line(x: Exchange, relay: Relay[Exchange], prices: PriceList) -> bytes:
    """Empty where nothing is priced, or the engine does not say how many tokens it took."""
    record, usage = x.record, relay.usage
    if prices.empty or usage is None or not usage.reported or not usage.prompt_tokens or x.envelope.counting:
        return b""
    leg = Leg(relay.pool.spec.name, record.served_model or record.model or "", usage.output_tokens)
    spent, _ = prices.on(record.arrival_s).charge(record.model or "", usage.prompt_tokens, [leg])
    return b"x-router-cost: %.6f\r\n" % (spent / MICRO)
