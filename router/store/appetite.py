"""How much of each kind the requests of one account have taken here lately, by the second. Pure: time is handed in."""

from __future__ import annotations

import math
from collections.abc import Sequence

from router.core.limits import NOTHING, REQUESTS, Limits, Shape, Units
from router.core.quota import UNITS_MAX

#: Seconds of demand that a busy key holds, beside two round trips; units held twice over go back.
HOLD_S = 0.5
#: However busy it is, a router holds no more of a rate than this part: what it takes with it when it dies is back soon;
#: and no more of the rest of a sum than that part, divided by the routers.
RATE_PARTS = 8
SUM_PARTS = 50
#: Demand is measured over at least this long, and smoothed.
ROLL_S = 0.1
_SMOOTHING = 0.3
#: After a pause of this length the measurement starts again.
QUIET_S = 1.0
#: When this number of requests should have come and none has, the demand has gone elsewhere.
GONE = 8.0


class Appetite:
    """``rates`` are units per second; ``let_in`` are the costs of the requests since they were measured."""

    __slots__ = ("_rolled_s", "let_in", "rates")

    def __init__(self, now_s: float) -> None:
        self.let_in: list[Units] = []
        self.rates: tuple[float, ...] = NOTHING
        self._rolled_s = now_s

    def __repr__(self) -> str:
        return f"<Appetite {self.requests:.1f} requests/s>"

    @property
    def requests(self) -> float:
        return self.rates[REQUESTS]

    def begin_anew(self, now_s: float) -> None:
        self._rolled_s = now_s

    def measure(self, now_s: float) -> bool:
        """False: too soon."""
        elapsed_s = now_s - self._rolled_s
        if elapsed_s < ROLL_S:
            return False
        if not self.let_in and self.requests * elapsed_s > GONE:
            self.rates = NOTHING
        else:
            keep = (1 - _SMOOTHING) ** (elapsed_s / ROLL_S)
            spent = map(sum, zip(NOTHING, *self.let_in, strict=True))
            self.rates = tuple(
                keep * rate + (1 - keep) * units / elapsed_s for rate, units in zip(self.rates, spent, strict=True)
            )
        self.let_in.clear()
        self._rolled_s = now_s
        return True

    def target(self, limits: Limits, shared: Sequence[int], routers: int, trip_s: float) -> tuple[Units, int]:
        """Units to hold of each kind, in the proportions of the demand, and how many slots. An allowance takes
        ``trip_s`` to come; ``shared`` is what the account has left."""
        rate = self.requests
        requests = min(UNITS_MAX, max(2.0, rate * (HOLD_S + 2 * trip_s)))
        for i, shape, limit in limits.active:
            if shape is not Shape.SLOTS and self.rates[i] > 0:
                most = limit // RATE_PARTS if shape is Shape.RATE else shared[i] // (SUM_PARTS * routers)
                requests = min(requests, most * rate / self.rates[i])
        if requests < 1:
            return NOTHING, 0
        target = tuple(min(UNITS_MAX, int(each * requests / rate)) for each in self.rates)
        if limits.slots is None:
            return target, 0
        usual = rate * (ROLL_S + 2 * trip_s)
        return target, max(1, min(math.ceil(usual + 2 * math.sqrt(usual)), limits.slots // (2 * routers)))
