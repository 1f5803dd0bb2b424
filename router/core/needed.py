"""How many backends a model needs in a region, so that first tokens come in time.

``Asked`` is the demand there, made of what decisions have learned: rates, the line of first tokens, the time of
answers, places (see ``standing``). For n backends it predicts the 95th percentile of the first token:

- the fixed part: round trip, overhead, residual, and what each of the R requests in an engine adds. R is Little's law,
  with answers that last longer the more there are;
- the wait for the prefill of others: n servers that share one queue, because decisions go where the queue is short.
  M/G/n after Sakasegawa ("An approximation formula Lq = α·ρ^β/(1-ρ)", 1977) and Lee and Longton;
- the wait for a place, in the same way, over the places of n backends;
- its own prefill. The three have means and variances; their sum is taken for a gamma distribution, whose quantile is
  Wilson and Hilferty's.

A queueing formula knows little of how an engine mixes prefill and answers. So the prediction is multiplied by what
first tokens took lately beside what the formula says for the backends that there are: the *stretch*.

And the KV cache must not be fuller than ``needed_kv_ratio``: it is shared by n backends instead of those there are.

The smallest n that keeps the target is what is needed *now*. ``Needed`` makes of it what is asked of those who start
and stop backends: more at once, and by the trend as much ahead as a backend takes to start; fewer only when fewer with
room to spare would have been enough for ``hold_s``, and never fewer than hold the requests in flight, nor than those
that run a request which is older than that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import ceil, inf, sqrt

from router.core.forecast import Trend
from router.core.params import Params

#: of the standard normal distribution: a value that 95 % stay below
_Z95 = 1.6449
#: a ninth of the squared coefficient of variation at which Wilson and Hilferty's quantile is the highest
_NINTH_MAX = (_Z95 / 2.0) ** 2
#: how much over the least possible first token a target must be, to be kept by adding backends
_REACH = 1.25
#: requests that come more seldom than this do not come any more: a rate fades, and is never 0
_IDLE_PER_S = 0.01
#: no more than this is ever asked for where no ``max`` is configured
BACKENDS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Goal:
    """The keys of ``[models.X]`` about backends. ``most`` None: no limit."""

    target_ttft_s: float
    least: int = 1
    most: int | None = None
    #: where ``least`` is 0, none is needed after this long without a request
    idle_s: float = 600.0
    hold_s: float = 60.0
    cold_start_s: float = 90.0


@dataclass(frozen=True, slots=True)
class Asked:
    """The demand on the backends of a model in a region, and their learned traits, as means over them. ``backends``:
    how many of them may be sent requests."""

    backends: int = 0
    per_s: float = 0.0
    #: prefill of one request, and the mean of its square
    work_s: float = 0.0
    work_square: float = 0.0
    #: first token of a request that meets nobody, without its prefill; what each request in the engine adds
    base_s: float = 0.0
    busy_s: float = 0.0
    #: from first to last token: when it is alone, and what each other request adds
    answer_s: float = 0.0
    answer_busy_s: float = 0.0
    #: requests in flight at all of them together
    inflight: float = 0.0
    #: requests that one of them can have in flight
    places: float = inf
    kv_ratio: float | None = None
    #: requests that wait in routers because no backend has a place
    waiting: float = 0.0

    def times(self, factor: float) -> Asked:
        """The same requests, at another rate."""
        return replace(self, per_s=self.per_s * factor, inflight=self.inflight * factor)


def ttft_p95_s(asked: Asked, backends: int) -> float:
    """The time that 95 % of first tokens would stay below with ``backends``. ``inf``: the queue would grow for ever."""
    if backends < 1:
        return inf
    rate = asked.per_s / backends
    growing = rate * asked.answer_busy_s
    prefill = _wait(rate * asked.work_s, backends, asked.work_s, asked.work_square)
    if growing >= 1.0 or prefill is None:
        return inf
    wait_s, wait_square = prefill
    there = rate * (asked.base_s + wait_s + asked.work_s + asked.answer_s) / (1.0 - growing)
    mean_s = wait_s + asked.work_s
    variance = wait_square - wait_s * wait_s + max(0.0, asked.work_square - asked.work_s * asked.work_s)
    if asked.places < inf:
        # The time in a place is about exponential.
        stay_s = there / rate if rate else 0.0
        places = _wait(there / asked.places, round(asked.places * backends), stay_s, 2.0 * stay_s * stay_s)
        if places is None:
            return inf
        mean_s += places[0]
        variance += places[1] - places[0] * places[0]
        there = min(there, asked.places)
    return asked.base_s + asked.busy_s * there + _gamma_p95(mean_s, variance)


def _wait(load: float, servers: int, mean_s: float, square: float) -> tuple[float, float] | None:
    """(mean wait, mean of its square) where ``servers`` are each busy for ``load`` of the time with work of
    ``mean_s``. None: more comes than they can do."""
    if load >= 1.0 or servers < 1:
        return None
    if load <= 0.0:
        return 0.0, 0.0
    waits = load ** (sqrt(2.0 * (servers + 1.0)) - 1.0)
    then_s = square / (2.0 * mean_s) / (servers * (1.0 - load))
    return waits * then_s, waits * 2.0 * then_s * then_s


def _gamma_p95(mean: float, variance: float) -> float:
    """Never falls as either of them grows. A distribution so skewed that its quantile would fall again, as where few
    wait and those for long, is taken for the one whose quantile is the highest, 4.7 times the mean."""
    if variance <= 0.0 or mean <= 0.0:
        return mean
    ninth = min(variance / (9.0 * mean * mean), _NINTH_MAX)
    return mean * max(1.0, 1.0 - ninth + _Z95 * sqrt(ninth)) ** 3


def holds(asked: Asked, backends: int, within_s: float, params: Params) -> bool:
    """Whether ``backends`` keep 95 % of first tokens within that time, and have memory for their requests."""
    full = (asked.kv_ratio or 0.0) * asked.backends > params.needed_kv_ratio * backends
    return not full and ttft_p95_s(asked, backends) <= within_s


def reachable_s(asked: Asked, target_s: float, stretch: float = 1.0) -> float:
    """The target, or what can be kept if that is more: what a request takes that meets nobody, and a bit."""
    alone = replace(asked, per_s=0.0, inflight=0.0)
    return max(target_s, _REACH * stretch * ttft_p95_s(alone, 1))


def least_that_holds(asked: Asked, within_s: float, params: Params, most: int = BACKENDS_MAX) -> int:
    """The smallest number of backends that ``holds``; ``most`` when none does."""
    low, high = 0, 1
    while high < most and not holds(asked, high, within_s, params):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(asked, middle, within_s, params):
            high = middle
        else:
            low = middle
    return high


class Needed:
    """The number for one model in one region. ``look`` once every few seconds."""

    __slots__ = (
        "_busy_s",
        "_low",
        "_params",
        "_seen",
        "_since_s",
        "_trend",
        "asked",
        "backends",
        "now",
        "reason",
        "stretch",
        "within_s",
    )

    def __init__(self, params: Params) -> None:
        self._params = params
        self._trend = Trend(params)
        self._low: deque[tuple[float, int]] = deque()
        self._since_s: float | None = None  # the first look, or the first one since then at which there was any
        self._seen: deque[float] = deque(maxlen=params.stretch_samples_max)
        #: how many times as long first tokens take as the formula says
        self.stretch = 1.0
        self._busy_s = 0.0  # the last look at which anything was asked
        self.asked = Asked()
        #: what is asked for; 0 before the first look
        self.backends = 0
        #: what the requests of this moment need, without trend and hysteresis
        self.now = 0
        #: the time that is kept: the target, unless no number of backends could keep it
        self.within_s = 0.0
        #: what the number follows from: a word of ``REASONS``
        self.reason = "idle"

    @property
    def predicted_p95_s(self) -> float:
        """With the backends that there are."""
        return self.stretch * ttft_p95_s(self.asked, self.asked.backends)

    def learn(self, ttfts_s: Iterable[float], asked: Asked) -> None:
        """Compare the first tokens since the last time with the prediction for the backends that there are."""
        params, seen = self._params, self._seen
        if asked.backends != self.asked.backends:
            seen.clear()  # they were others' times
        seen.extend(ttfts_s)
        predicted_s = ttft_p95_s(asked, asked.backends)
        if len(seen) >= params.stretch_samples and 0.0 < predicted_s < inf:
            stretch = sorted(seen)[int(0.95 * len(seen))] / predicted_s
            stretch = min(max(stretch, 1.0 / params.stretch_max), params.stretch_max)
            self.stretch += params.stretch_weight * (stretch - self.stretch)

    def look(self, goal: Goal, asked: Asked, old: int, now_s: float) -> int:
        """Take what is asked now. ``old``: backends with a request that is older than ``hold_s``. Returns what is
        needed."""
        if self._since_s is None or (asked.backends and not self.asked.backends):
            self._since_s = self._busy_s = now_s
        params, self.asked = self._params, asked
        self._trend.add(asked.per_s, now_s)
        self.within_s = reachable_s(asked, goal.target_ttft_s, self.stretch)
        within_s = self.within_s / self.stretch
        most = goal.most if goal.most is not None else BACKENDS_MAX
        backlog = asked.waiting / params.needed_backlog_s
        whole = replace(asked, per_s=asked.per_s + backlog)
        coming = whole.times(self._trend.growth(goal.cold_start_s))
        idle = asked.per_s < _IDLE_PER_S and asked.inflight < 0.5 and not asked.waiting
        if not idle:
            self._busy_s = now_s
        self.now = 0 if idle else least_that_holds(whole, within_s, params, most)
        soon = 0 if idle else least_that_holds(coming, within_s, params, most)
        spare = 0 if idle else least_that_holds(coming, params.needed_spare_ratio * within_s, params, most)
        streams = max(old, ceil(asked.inflight / asked.places - 1e-9), int(asked.inflight >= 0.5))
        wakeful = int(now_s - self._busy_s < goal.idle_s and asked.backends > 0)
        least = min(max(goal.least, wakeful, streams), most)
        if now_s - self._since_s < goal.hold_s:  # whether fewer would do is not known yet
            self.backends = max(self.backends, min(asked.backends, most))
        self._decide(soon, max(spare, least), least, goal.hold_s, now_s)
        self._explain(goal, soon, streams, most)
        return self.backends

    def _decide(self, soon: int, spare: int, least: int, hold_s: float, now_s: float) -> None:
        """More at once; fewer when the highest of the last ``hold_s`` is fewer."""
        low = self._low
        while low and low[-1][1] <= spare:
            low.pop()
        low.append((now_s, spare))
        while low[0][0] < now_s - hold_s:
            low.popleft()
        wanted = max(soon, least)
        if wanted >= self.backends or not wanted:  # none: the idle time is over, which is longer
            self.backends = wanted
        elif self._since_s is not None and now_s - self._since_s >= hold_s:
            self.backends = max(wanted, min(self.backends, low[0][1]))

    def _explain(self, goal: Goal, soon: int, streams: int, most: int) -> None:
        backends = self.backends
        if backends >= most and soon >= most and soon > 0:
            self.reason = "max"
        elif self.within_s > goal.target_ttft_s and backends == soon:
            self.reason = "unreachable"
        elif backends > max(soon, streams, goal.least):
            self.reason = "held"
        elif backends == soon and soon > self.now:
            self.reason = "trend"
        elif backends == soon and soon > 0:
            self.reason = "load"
        elif backends == streams and streams > 0:
            self.reason = "streams"
        else:
            self.reason = "min" if backends else "idle"


#: Reasons of the number, as operators see them: keep the words stable.
REASONS: dict[str, str] = {
    "load": "the requests of now",
    "trend": "the requests that will come by the time a backend has started",
    "held": "fewer would do, but not for long enough yet",
    "streams": "requests that run must have a place",
    "min": "the configured least",
    "max": "the configured most: more would be needed",
    "unreachable": "the target is less than a first token takes that meets nobody: the least possible is kept",
    "idle": "nothing is asked",
    "unheard": "a source of backends has not been heard yet",
}
