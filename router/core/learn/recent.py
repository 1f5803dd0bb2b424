"""The mean of the latest times of one kind."""

from __future__ import annotations

from router.core.params import Params


class Recent:
    """The mean of the latest times of one kind."""

    __slots__ = ("_enough", "_memory_s", "_weight", "at_s", "mean_s", "samples")

    def __init__(self, params: Params) -> None:
        self._weight = params.whole_weight
        self._enough = 1.0 / params.whole_weight
        self._memory_s = params.fit_memory_s
        self.mean_s = 0.0
        #: how many there were, without a pause of ``fit_memory_s``
        self.samples = 0
        self.at_s = float("-inf")

    def begin_anew(self) -> None:
        self.samples = 0

    def add(self, time_s: float, now_s: float) -> None:
        samples = self.samples = self.samples + 1 if now_s - self.at_s <= self._memory_s else 1
        self.at_s = now_s
        self.mean_s += (self._weight if samples > self._enough else 1.0 / samples) * (time_s - self.mean_s)

    def known(self, samples: float, since_s: float) -> bool:
        """Whether there are at least ``samples`` of them, the latest no older than ``since_s``."""
        return self.samples >= samples and self.at_s >= since_s
