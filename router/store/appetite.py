"""How much of each kind the requests of one account have taken here lately, by the second. Pure: time is handed in."""

from __future__ import annotations

from router.core.limits import NOTHING, REQUESTS, Units

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
