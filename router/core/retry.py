"""How often this router may try again: a budget per region, so that an outage is not multiplied by retries.

After Finagle's RetryBudget: retries in the window never exceed ``retry_ratio`` of the requests in it plus a floor that
keeps quiet regions usable.
"""

from __future__ import annotations

from router.core.params import Params

_BUCKETS = 10


class RetryBudget:
    """Requests and retries of one region over a sliding window of ``_BUCKETS`` equal parts."""

    __slots__ = ("_bucket_s", "_floor", "_index", "_next_s", "_place", "_ratio", "_requests", "_retries")

    def __init__(self, params: Params) -> None:
        self._bucket_s = params.retry_window_s / _BUCKETS
        self._floor = params.retry_floor_per_s * params.retry_window_s
        self._ratio = params.retry_ratio
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
        """So many first attempts went to this region."""
        if now_s >= self._next_s:
            self._roll(now_s)
        self._requests[self._place] += count

    def take(self, now_s: float) -> bool:
        """Whether one more retry is within the budget; if so it is counted."""
        if self.left(now_s) < 1.0:
            return False
        self._retries[self._place] += 1
        return True

    def left(self, now_s: float) -> float:
        """Retries that would be allowed now."""
        if now_s >= self._next_s:
            self._roll(now_s)
        return self._floor + self._ratio * sum(self._requests) - sum(self._retries)
