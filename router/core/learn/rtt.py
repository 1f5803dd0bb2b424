"""The round trip to a backend: its mean, and its floor without queues."""

from __future__ import annotations

from router.core.decay import Ewma
from router.core.params import Params


class RttEstimate:
    """Mean and floor of the round trip. ``mean_s`` None: never measured."""

    __slots__ = ("_before_s", "_current_s", "_mean", "_window_from_s", "_window_s", "at_s", "mean_s")

    def __init__(self, params: Params) -> None:
        self._mean = Ewma(params.rtt_weight)
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
        self.mean_s = self._mean.add(rtt_s)
        self.at_s = now_s
