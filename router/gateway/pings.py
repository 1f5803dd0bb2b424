"""Fills the silence of streams: proxies and clients give up a connection on which nothing comes for long.

Engines are silent while they hold back a tool call, and nobody speaks while a broken stream waits for the backend that
continues it.
"""

from __future__ import annotations

from collections.abc import Iterable

from router.gateway.exchange import Exchange

#: A stream is silent no longer than this and one look, in seconds: together less than 15.
SILENCE_S = 13.5
_LOOK_S = 1.0


class Pings:
    """Looks at all streams once a second: that costs less than a timer for each."""

    def __init__(self) -> None:
        self._due_s = float("-inf")

    def sweep(self, live: Iterable[Exchange], now_s: float) -> None:
        if now_s < self._due_s:
            return
        self._due_s = now_s + _LOOK_S
        for x in live:
            answer = x.answer
            if answer.events:
                relay = x.relay
                spoke_s = answer.spoke_s if relay is None else max(relay.spoke_s, answer.spoke_s)
                silent = now_s - spoke_s >= SILENCE_S and not answer.inbound.paused
                if silent and (relay is None or relay.between_events):
                    answer.ping(now_s)
