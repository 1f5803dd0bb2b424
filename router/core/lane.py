"""One model on one backend: its fit there, its rates and its quote; and such lanes in a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from router.core.cost import Ahead, Quote, Rates, work_s
from router.core.decay import Ewma
from router.core.learn.backlog import Backlog
from router.core.learn.first_token import TtftFit
from router.core.learn.recent import Recent
from router.core.learn.service import Service
from router.core.params import Params
from router.core.types import Lease

if TYPE_CHECKING:
    from router.core.backend import Backend

_MILLIONTH = 1e-6
_HALF_MILLIONTH = 5e-7
#: times found far too long in a row before it is believed
_LOOKS = 2


class Habit:
    """How long one kind of time usually is at a backend, slowly averaged, and how often in a row it was far too long.

    See ``gray``.
    """

    __slots__ = ("_marks", "_usual", "most_s")

    def __init__(self, params: Params) -> None:
        self._marks = 0
        self._usual = Ewma(params.gray_usual_weight)
        #: more than this is far too long
        self.most_s = float("inf")

    def begin_anew(self) -> None:
        self._marks = 0

    def judge(self, time_s: float, most_s: float, sick_s: float, params: Params) -> bool:
        """Whether ``time_s``, seen in one look at the fleet, is far too long for the second look in a row.

        Above ``most_s`` it is if it is unusual here, above ``sick_s`` in any case.
        """
        usual_s = time_s if self._usual.value is None else self._usual.value
        self.most_s = min(sick_s, max(most_s, params.gray_factor * usual_s))
        if time_s <= self.most_s:
            self._marks = 0
            self._usual.add(time_s)
            return False
        self._marks = (self._marks + 1) % _LOOKS
        return self._marks == 0


class Lane:
    """One model on one backend: its fit, its rates and its quote."""

    __slots__ = (
        "curve",
        "first_tokens",
        "fit",
        "fixed_s",
        "model",
        "mpair_s",
        "place",
        "queue_toll",
        "queued",
        "quote",
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
        self.quote: Quote = (0.0, 0.0, 0.0, Ahead())
        #: where else the quote is kept: its place in a ``Lineup``
        self.row, self.place = [self.quote], 0
        self.set_rates(self.quote[3].rates)
        #: see ``Fleet``: the same for all backends of a model
        self.toll = self.shared_queue_s = 0.0
        #: what first tokens took that waited for others more than for themselves, without the network
        self.queued = Recent(fit.params)
        #: how long answers in one piece take, whose first token nobody sees
        self.whole = Recent(fit.params)
        #: what is usual here, of first tokens and of whole answers, see ``gray``
        self.first_tokens, self.wholes = Habit(fit.params), Habit(fit.params)

    def begin_anew(self) -> None:
        """It was judged by these times; whether it has got better, only new ones can tell."""
        self.fit.begin_anew()
        self.queued.begin_anew()
        self.whole.begin_anew()
        self.first_tokens.begin_anew()
        self.wholes.begin_anew()

    def charge(self, toll: float, shared_queue_s: float) -> None:
        """Take the toll and the mean queue of the model's backends, see ``common``."""
        self.toll, self.shared_queue_s = toll, shared_queue_s

    def learn_first_token(self, lease: Lease, ahead: Ahead, ttft_s: float, backlog: Backlog, now_s: float) -> None:
        """The first token of ``lease`` came after ``ttft_s``; ``ahead`` was when it was sent."""
        rates, requests = ahead.rates, ahead.requests
        takes_s = work_s(rates, lease.prompt_tokens, lease.uncached_tokens)
        error_s = ttft_s - (lease.predicted_ttft_s or 0.0)
        ahead_s = rates.pace * (ahead.tokens * rates.token_s + ahead.mpairs * rates.pair_s * 2e6)
        if ahead_s > 0.0:
            wait_s = max(0.0, ttft_s - rates.rtt_s - rates.overhead_s - requests * rates.busy_s - takes_s)
            backlog.waited(ahead_s, wait_s, now_s)
        if ahead.queue_s > takes_s:
            # It waited for others more than for itself: that tells of the backlog, not of the engine.
            self.fit.note(error_s, now_s)
            self.queued.add(ttft_s - rates.rtt_s, now_s)
        else:
            tokens = ahead.tokens * rates.slowness + lease.uncached_tokens
            mpairs = ahead.mpairs * rates.slowness + lease.pairs * _MILLIONTH
            self.fit.add(tokens, requests, ttft_s - rates.rtt_s, error_s, now_s, mpairs=mpairs)

    def still_slow(self, lease: Lease, took_s: float) -> bool:
        """Whether a trial that was answered after ``took_s`` shows that it is still far too slow here."""
        habit = self.wholes if lease.first_token_s is None else self.first_tokens
        return took_s > habit.most_s

    def refresh(
        self, service: Service, rtt_s: float, pressure_s: float, late_s: float, risk_s: float, slowness: float
    ) -> None:
        """Make the rates from what is known now of the model here, and from what is known of the backend.

        ``late_s``: how long a first token is overdue. ``slowness``: of the backlog.
        """
        fit, params = self.fit, self.fit.params
        line, shape = fit.line, fit.common
        ratio, shared = params.decode_ratio, params.toll_shared_ratio
        decoded = ratio * service.expected_tokens
        residual_s = max(fit.residual_s, late_s, -params.residual_floor_ratio * line.overhead_s)
        self.set_rates(
            Rates(
                rtt_s=rtt_s,
                overhead_s=line.overhead_s,
                pressure_s=pressure_s,
                residual_s=residual_s,
                first_token_s=rtt_s + line.overhead_s + residual_s,
                risk_s=risk_s,
                token_s=shape.token_s,
                pair_s=shape.attention_s * _HALF_MILLIONTH,
                pace=fit.pace,
                slowness=slowness,
                busy_s=line.busy_s,
                decode_each_s=2.0 * decoded * service.itl_busy_s,
                decode_alone_s=decoded * service.itl_s,
                toll=self.toll,
                queue_toll=self.toll * (1.0 - shared),
                shared_toll=self.toll * shared * self.shared_queue_s,
                stall_ratio=ratio,
            )
        )

    @property
    def prefill_tokens_per_s(self) -> float:
        """Learned."""
        return 1.0 / self.fit.line.token_s

    @property
    def ahead(self) -> Ahead:
        """The work ahead of a request that is sent now."""
        return self.quote[3]

    def set_rates(self, rates: Rates) -> None:
        """Take these from now on. What ``Backend.requote`` multiplies with what is ahead is made of them here."""
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
    """Backends of one model that may be used, with their quotes for it in one row, kept up to date by the backends.

    Who keeps quotes copies the row. ``known`` is what their prefix indices remember, in the same order.
    """

    quotes: list[Quote]
    known: list[dict[int, int]]
    local: frozenset[int]  # the places of those in the router's region

    @classmethod
    def part(cls, backends: Iterable[Backend], model: str) -> Lineup:
        """For one decision: the row is not kept up to date. All have a lane for ``model``."""
        lineup = cls(backends)
        lineup.quotes = [b.lanes[model].quote for b in lineup]
        lineup.known = [b.prefix.known for b in lineup]
        lineup.local = frozenset(place for place, b in enumerate(lineup) if b.local)
        return lineup

    @classmethod
    def of(cls, backends: Iterable[Backend], model: str) -> Lineup:
        """The line-up of ``model`` from now on: only the latest is kept up to date."""
        lineup = cls.part(backends, model)
        for place, b in enumerate(lineup):
            lane = b.lanes[model]
            lane.row, lane.place = lineup.quotes, place
        return lineup
