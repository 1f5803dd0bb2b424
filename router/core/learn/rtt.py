"""The round trip to a backend: its mean, and its floor without queues.

One round trip that is far from those before may be chance, and weighs as any other. When the next one is about as far,
the distance has changed, and the mean is that of these two: a mean that only follows needs six probes to come within an
eighth of it, and until then many requests go where the old distance leads them. *Far* is by more than
``Params.rtt_far`` times the mean deviation (RFC 6298 relies on nearly every round trip staying below that), and by more
than a part of the mean.
"""

from __future__ import annotations

from router.core.decay import Ewma
from router.core.params import Params


class RttEstimate:
    """Mean and floor of the round trip. ``mean_s`` None: never measured."""

    __slots__ = (
        "_before_s",
        "_current_s",
        "_deviation_s",
        "_deviations",
        "_far_s",
        "_mean",
        "_params",
        "_window_from_s",
        "_window_s",
        "at_s",
        "mean_s",
    )

    def __init__(self, params: Params) -> None:
        self._params = params
        self._mean = Ewma(params.rtt_weight)
        self._deviation_s = 0.0
        self._deviations = 0
        #: the latest one and the mean before it, if it was far from that
        self._far_s: tuple[float, float] | None = None
        self._window_s = params.rtt_floor_window_s
        self.mean_s: float | None = None
        self.at_s = float("-inf")
        self._current_s = self._before_s = float("inf")
        self._window_from_s = float("-inf")

    @property
    def floor_s(self) -> float | None:
        """The smallest of the last one to two windows: the path without queues."""
        floor_s = min(self._current_s, self._before_s)
        return None if floor_s == float("inf") else floor_s

    def age_s(self, now_s: float) -> float:
        return now_s - self.at_s

    def add(self, rtt_s: float, now_s: float) -> None:
        if now_s - self._window_from_s >= self._window_s:
            self._before_s, self._current_s = self._current_s, float("inf")
            self._window_from_s = now_s
        self._current_s = min(self._current_s, rtt_s)
        self.mean_s = self._follow(rtt_s)
        self.at_s = now_s

    def _follow(self, rtt_s: float) -> float:
        """The mean, with one more."""
        params, mean_s, far_s = self._params, self.mean_s, self._far_s
        self._far_s = None
        if mean_s is None:
            return self._mean.add(rtt_s)
        if far_s is not None:
            first_s, before_s = far_s
            if abs(rtt_s - first_s) < abs(first_s - before_s) / 2:
                self._mean = Ewma(params.rtt_weight, (first_s + rtt_s) / 2)
                return (first_s + rtt_s) / 2
            self._deviate(abs(first_s - before_s))  # it was chance
        by_s = abs(rtt_s - mean_s)
        known = self._deviations >= params.rtt_deviations
        if known and by_s > max(params.rtt_far * self._deviation_s, params.rtt_far_ratio * mean_s):
            self._far_s = (rtt_s, mean_s)
        else:
            self._deviate(by_s)
        return self._mean.add(rtt_s)

    def _deviate(self, by_s: float) -> None:
        self._deviations += 1
        weight = max(self._params.rtt_deviation_weight, 1 / self._deviations)
        self._deviation_s += weight * (by_s - self._deviation_s)
