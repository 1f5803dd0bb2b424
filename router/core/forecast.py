"""Where a rate is going: a line through its values of the last minutes, believed when it is steeper than chance."""

from __future__ import annotations

from collections import deque
from math import sqrt

from router.core.params import Params


class Trend:
    """The values of one rate over ``trend_s``."""

    __slots__ = ("_memory_s", "_seen", "_sure", "_window_s")

    def __init__(self, params: Params) -> None:
        self._window_s = params.trend_s
        self._memory_s = params.rate_memory_s
        self._sure = params.trend_sure
        self._seen: deque[tuple[float, float]] = deque()

    def add(self, value: float, now_s: float) -> None:
        """The rate now. Two values at one time count as the later one."""
        seen = self._seen
        if seen and seen[-1][0] >= now_s:
            seen.pop()
        seen.append((now_s, value))
        while seen[0][0] < now_s - self._window_s:
            seen.popleft()

    @property
    def slope(self) -> float:
        """By how much it grows per second; 0 when it does not, or when that may be chance.

        Neighbouring values are not independent: each is a mean over ``rate_memory_s``. So only the number of such
        times counts as the number of samples.
        """
        seen = self._seen
        if len(seen) < 3:
            return 0.0
        span_s = seen[-1][0] - seen[0][0]
        samples = min(float(len(seen)), span_s / self._memory_s)
        if samples < 3.0:
            return 0.0
        mean_at_s = sum(at_s for at_s, _ in seen) / len(seen)
        mean = sum(value for _, value in seen) / len(seen)
        spread = sum((at_s - mean_at_s) ** 2 for at_s, _ in seen) / len(seen)
        slope = sum((at_s - mean_at_s) * (value - mean) for at_s, value in seen) / len(seen) / spread
        if slope <= 0.0:
            return 0.0
        misses = sum((value - mean - slope * (at_s - mean_at_s)) ** 2 for at_s, value in seen) / len(seen)
        error = sqrt(misses / (spread * (samples - 2.0)))
        return slope if slope > self._sure * error else 0.0

    def growth(self, ahead_s: float) -> float:
        """How many times as much as now it will be in ``ahead_s``, if it goes on so. At least 1: that a rate falls is
        known when it has fallen. At most ``2``: a line through minutes says little about more."""
        if not self._seen or (value := self._seen[-1][1]) <= 0.0:
            return 1.0
        return min(2.0, 1.0 + self.slope * ahead_s / value)
