"""Who comes last: a backend whose latest attempts failed, or that says nothing while its probe fails.

Nobody is ejected for it. It takes two failures, holds for a moment, and matters only while there is another backend.
Then one request finds out whether it is better; as long as it is not, the moments grow. So a fast failure never looks
like a short queue, whatever the policy counts, and in panic, too, requests go first to those that serve.
"""

from __future__ import annotations

from router.core.decay import Ewma
from router.core.outcomes import Outcome
from router.core.params import Params


class Reputation:
    """How the latest attempts at one backend ended."""

    __slots__ = (
        "_chance",
        "_params",
        "failed_in_row",
        "failure_chance",
        "failures_total",
        "held_until_s",
        "last_error",
    )

    def __init__(self, params: Params) -> None:
        self._params = params
        self.failures_total = 0
        self.last_error: str | None = None
        self.forget()

    def forget(self) -> None:
        """Another engine stands behind the name. The count of failures goes on."""
        #: how often attempts fail lately: an EWMA of 1 for a failure and 0 for an answer, which fades with time
        self._chance = Ewma(self._params.failure_weight, 0.0)
        self.failure_chance = 0.0
        #: attempts, without a first token or a whole answer since
        self.failed_in_row = 0
        #: others come first until then
        self.held_until_s = float("-inf")

    def failed(self, outcome: Outcome, now_s: float) -> None:
        """An attempt failed."""
        params = self._params
        self.failures_total += 1
        self.last_error = outcome.value
        self.failure_chance = self._chance.add(1.0)
        self.failed_in_row += 1
        if self.failed_in_row >= params.failing_in_row or self.failure_chance >= params.failing_chance:
            doublings = min(max(0, self.failed_in_row - params.failing_in_row), 10)
            self.held_until_s = now_s + min(params.failing_hold_s * 2.0**doublings, params.failing_hold_max_s)

    def answered(self) -> bool:
        """A first token or a whole answer came. Returns whether that ends a doubt.

        Needs no call while ``failure_chance`` is 0.
        """
        self.failure_chance = self._chance.add(0.0)
        doubtful = self.doubtful
        self._trust()
        return doubtful

    def pardon(self) -> None:
        """The backend is back from an absence: its failures were of another time."""
        self.failure_chance = self._chance.fade(0.0)
        self._trust()

    def fade(self, keep: float) -> None:
        """Time has passed: ``keep`` of the chance of a failure is left."""
        self.failure_chance = self._chance.fade(keep)

    def begun(self, now_s: float) -> None:
        """A request goes there; until it has shown something, no other needs to find out the same.

        Needs no call while ``failed_in_row`` is 0.
        """
        if self.failed_in_row >= self._params.failing_in_row:
            self.held_until_s = max(self.held_until_s, now_s + self._params.failing_hold_s)

    def comes_last(self, now_s: float, *, silent: bool, retry: bool) -> bool:
        """Whether others are to be preferred. A retry is pickier: its request has lost time already.

        ``silent``: its probe fails, and several attempts have brought nothing.
        """
        if silent or now_s < self.held_until_s:
            return True
        return retry and self.failed_in_row > 0

    @property
    def doubtful(self) -> bool:
        """Whether ``comes_last`` has to be asked at all."""
        return self.failed_in_row > 0 or self.held_until_s > float("-inf")

    def _trust(self) -> None:
        self.failed_in_row = 0
        self.held_until_s = float("-inf")
