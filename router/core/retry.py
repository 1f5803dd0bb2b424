"""How often this router may try again: a budget per region, so that an outage is not multiplied by retries.

After Finagle's RetryBudget: retries in the window never exceed ``retry_ratio`` of the requests in it plus a floor that
keeps quiet regions usable. That is for retries with a hope: some other backend of the model is doing better. Where all
of them fail, or are full, a retry only adds to it: then they never exceed ``retry_hopeless_ratio`` of the requests and
a small floor.
"""

from __future__ import annotations

from router.core.params import Params

#: attempts of one request, the first included
MAX_ATTEMPTS = 3

_BUCKETS = 10


class RetryBudget:
    """Requests and retries of one region over a sliding window of ``_BUCKETS`` equal parts."""

    __slots__ = (
        "_bucket_s",
        "_floor",
        "_hopeless_floor",
        "_hopeless_ratio",
        "_index",
        "_next_s",
        "_place",
        "_ratio",
        "_requests",
        "_retries",
    )

    def __init__(self, params: Params) -> None:
        self._bucket_s = params.retry_window_s / _BUCKETS
        self._floor = params.retry_floor_per_s * params.retry_window_s
        self._hopeless_floor = params.retry_hopeless_floor_per_s * params.retry_window_s
        self._ratio = params.retry_ratio
        self._hopeless_ratio = params.retry_hopeless_ratio
        self._index = 0
        self._place = 0
        self._next_s = float("-inf")  # the present part of the window ends
        self._requests = [0] * _BUCKETS
        self._retries = [0] * _BUCKETS

    def _roll(self, now_s: float) -> None:
        index = int(now_s / self._bucket_s)
        for stale in range(max(self._index + 1, index - _BUCKETS + 1), index + 1):
            self._requests[stale % _BUCKETS] = 0
            self._retries[stale % _BUCKETS] = 0
        self._index = max(index, self._index)
        self._place = self._index % _BUCKETS
        self._next_s = (self._index + 1) * self._bucket_s

    def requests(self, count: int, now_s: float) -> None:
        """Record ``count`` first attempts at this region."""
        if now_s >= self._next_s:
            self._roll(now_s)
        self._requests[self._place] += count

    def take(self, now_s: float, *, hopeful: bool = True) -> bool:
        """Whether one more retry is within the budget; if so it is counted."""
        if self.left(now_s, hopeful=hopeful) < 1.0:
            return False
        self._retries[self._place] += 1
        return True

    def left(self, now_s: float, *, hopeful: bool = True) -> float:
        """Retries that would be allowed now."""
        if now_s >= self._next_s:
            self._roll(now_s)
        requests, retries = sum(self._requests), sum(self._retries)
        left = self._floor + self._ratio * requests - retries
        return left if hopeful else min(left, self._hopeless_floor + self._hopeless_ratio * requests - retries)
