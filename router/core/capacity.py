"""How many requests one backend may have in flight, and whether it asked to be left alone."""

from __future__ import annotations

from router.core.params import Params


class Capacity:
    """``limit`` is learned: lowered when the backend says that it is full (429, 503), raised again by whole answers,
    and never above the configured most (additive increase, multiplicative decrease).
    """

    __slots__ = ("_doubles", "_lowered_s", "_most", "_params", "limit", "lowered", "not_before_s")

    def __init__(self, params: Params, most: int) -> None:
        self._params = params
        #: it has just begun to serve: each first token lets one more in, so the limit doubles with each round
        self._doubles = False
        #: no request may go there before
        self.not_before_s = float("-inf")
        self._lowered_s = float("-inf")
        self.configure(most)

    def configure(self, most: int) -> None:
        """Take over another configured limit."""
        self._most = self.limit = float(most)
        #: whether ``limit`` is below the configured one
        self.lowered = self._doubles = False

    def begin_small(self) -> None:
        """It has just woken, and many wait for it: its caches are cold, and what it can do is not known yet."""
        self.limit = min(self._most, float(self._params.wake_places))
        self.lowered = self._doubles = self.limit < self._most

    def began(self) -> None:
        """A first token came. Needs no call while the limit is not lowered."""
        if self._doubles:
            self.limit = min(self.limit + 1.0, self._most)
            self.lowered = self._doubles = self.limit < self._most

    def answered(self) -> None:
        """A whole answer came. Needs no call while the limit is not lowered."""
        self.limit = min(self.limit + 1.0 / self.limit, self._most)
        self.lowered = self.limit < self._most

    def refused(self, inflight: int, started_s: float, now_s: float) -> None:
        """It is full: a request that began at ``started_s`` was refused with ``inflight`` others there. Lowers the
        limit once per round of requests."""
        if started_s >= self._lowered_s:
            self.limit = max(1.0, min(self.limit, inflight + 1.0) * self._params.limit_backoff_ratio)
            self.lowered = self.limit < self._most
            self._lowered_s = now_s
            self._doubles = False

    def leave_alone(self, retry_after_s: float, now_s: float) -> None:
        """It asked to be left alone for ``retry_after_s``."""
        until_s = now_s + min(retry_after_s, self._params.retry_after_max_s)
        self.not_before_s = max(self.not_before_s, until_s)
