"""How fast an engine works off the prompts that wait for it."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log

from router.core.decay import kept
from router.core.params import Params


class Backlog:
    """How fast an engine works off the prompts that wait for it, compared with how fast it can.

    When a request waits longer than the work ahead of it takes, something else holds the
    engine up: memory or places that are taken, answers in the batch, requests that nobody told us of.

    An engine that looks slow is sent nothing and so never seen to be quick again. So what was learned fades with time,
    towards what the model's backends have in common.
    """

    __slots__ = ("_common", "_n", "_params", "_seen_s", "_wait_s", "_work_s")

    def __init__(self, params: Params) -> None:
        self._params = params
        self._n = self._work_s = self._wait_s = 0.0
        self._common = 0.0  # a logarithm, see common_speed
        self._seen_s = float("-inf")

    def waited(self, work_s: float, wait_s: float, now_s: float) -> None:
        """A request with ``work_s`` ahead of it waited ``wait_s``."""
        # The more of it is replaced the more there is to tell.
        keep = exp((self._seen_s - now_s) / self._params.speed_memory_s) * self._params.speed_keep_ratio
        self._seen_s = now_s
        self._n = self._n * keep + 1.0
        self._work_s = self._work_s * keep + work_s
        self._wait_s = self._wait_s * keep + wait_s

    def fade(self, now_s: float) -> tuple[float, float]:
        """Forget what is old. Returns how many samples are left, and the logarithm of the speed they show."""
        if self._n:
            keep = kept(now_s - self._seen_s, self._params.speed_memory_s)
            self._seen_s = now_s
            self._n *= keep
            self._work_s *= keep
            self._wait_s *= keep
        return self._n, self._seen

    def settle(self, common: float) -> None:
        """Hold the speed to what the model's backends have in common, see ``common_speed``."""
        self._common = common

    @property
    def _seen(self) -> float:
        prior_s = self._params.speed_prior_s
        return log((self._work_s + prior_s) / (self._wait_s + prior_s)) if self._n else 0.0

    @property
    def speed(self) -> float:
        """Seconds of work done in a second. Computed when read, once per tick, not with each sample."""
        n, params = self._n, self._params
        speed = exp((n * self._seen + params.speed_samples * self._common) / (n + params.speed_samples))
        return min(max(speed, params.speed_min_ratio), params.speed_max_factor)


def common_speed(faded: Iterable[tuple[float, float]], params: Params) -> float:
    """The logarithm of the mean speed of the backlogs of a model: full speed where nobody has waited lately."""
    samples, sum_of_logs = params.speed_samples, 0.0
    for n, seen in faded:
        samples += n
        sum_of_logs += n * seen
    return sum_of_logs / samples
