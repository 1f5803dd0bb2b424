"""One model on one backend: what is learned of it there, its rates and its price; and such lanes in a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from router.core.cost import Price, Rates
from router.core.learn.first_token import TtftFit
from router.core.learn.recent import Recent

if TYPE_CHECKING:
    from router.core.backend import Backend

_RATES = Rates()


class Habit:
    """What one kind of time usually is at a backend, slowly averaged, and how often in a row it was far too long."""

    __slots__ = ("marks", "most_s", "usual_s")

    def __init__(self) -> None:
        self.marks = 0
        self.usual_s: float | None = None
        #: more than this is far too long
        self.most_s = float("inf")


class Lane:
    """One model on one backend: its fit, its rates and its price."""

    __slots__ = (
        "curve",
        "first_tokens",
        "fit",
        "fixed_s",
        "model",
        "mpair_s",
        "place",
        "price",
        "queue_toll",
        "queued",
        "rate",
        "rates",
        "request_s",
        "row",
        "shared_queue_s",
        "stall",
        "token_s",
        "toll",
        "whole",
        "wholes",
    )

    def __init__(self, model: str, fit: TtftFit) -> None:
        self.model = model
        self.fit = fit
        self.price: Price = (0.0, 0.0, 0.0, (0.0, 0.0, 0.0, 0.0, _RATES))
        #: where else the price is kept: its place in a ``Lineup``
        self.row, self.place = [self.price], 0
        self.set_rates(_RATES)
        #: see ``Fleet``: the same for all backends of a model
        self.toll = self.shared_queue_s = 0.0
        #: what first tokens took that waited for others more than for themselves, without the network
        self.queued = Recent(fit.params)
        #: how long answers in one piece take, whose first token nobody sees
        self.whole = Recent(fit.params)
        #: what is usual here, of first tokens and of whole answers, see ``gray``
        self.first_tokens, self.wholes = Habit(), Habit()

    def begin_anew(self) -> None:
        """It was judged by these times; whether it has got better, only new ones can tell."""
        self.fit.begin_anew()
        self.queued.begin_anew()
        self.whole.begin_anew()
        self.first_tokens.marks = self.wholes.marks = 0

    def set_rates(self, rates: Rates) -> None:
        """Take these from now on. What ``Backend.reprice`` multiplies with what is ahead is made of them here."""
        self.rates = rates
        self.fixed_s = (
            rates.rtt_s + rates.overhead_s + rates.pressure_s + rates.residual_s + rates.risk_s + rates.decode_alone_s
        )
        pace = rates.pace
        slow_pace = pace * rates.slowness
        self.token_s = rates.token_s * slow_pace
        self.mpair_s = rates.pair_s * 2e6 * slow_pace
        self.request_s = rates.busy_s + rates.decode_each_s
        self.stall = pace * rates.stall_ratio
        self.rate = pace * (1.0 + rates.shared_toll)
        self.queue_toll = pace * rates.queue_toll
        self.curve = pace * pace * rates.toll


class Lineup(tuple["Backend", ...]):
    """Backends of one model that may be used, with their prices for it in one row, kept up to date by the backends.

    Who keeps prices copies the row. ``known`` is what their prefix indices remember, in the same order.
    """

    prices: list[Price]
    known: list[dict[int, int]]

    @classmethod
    def part(cls, backends: Iterable[Backend], model: str) -> Lineup:
        """For one decision: the row is not kept up to date. All have a lane for ``model``."""
        lineup = cls(backends)
        lineup.prices = [b.lanes[model].price for b in lineup]
        lineup.known = [b.prefix.known for b in lineup]
        return lineup

    @classmethod
    def of(cls, backends: Iterable[Backend], model: str) -> Lineup:
        """The line-up of ``model`` from now on: only the latest is kept up to date."""
        lineup = cls.part(backends, model)
        for place, b in enumerate(lineup):
            lane = b.lanes[model]
            lane.row, lane.place = lineup.prices, place
        return lineup
