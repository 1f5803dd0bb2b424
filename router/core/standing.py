"""Who comes last: a backend whose latest attempts failed, or that says nothing while its probe fails.

This is no ejection. It takes two failures, holds for a moment, and matters only while another backend can be had. Then
one request finds out whether it is better; as long as it is not, the moments grow. So a fast failure never looks like a
short queue, whatever the policy counts, and in panic, too, requests go first to those that serve.
"""

from __future__ import annotations

from router.core.params import Params


class Standing:
    """How the latest attempts at one backend ended."""

    __slots__ = ("_params", "failed_in_row", "held_until_s", "unanswered")

    def __init__(self, params: Params) -> None:
        self._params = params
        #: attempts, without a first token or a whole answer since
        self.failed_in_row = 0
        #: others come first until then
        self.held_until_s = float("-inf")
        #: attempts that were begun since the latest first token or whole answer
        self.unanswered = 0

    def failed(self, failure_chance: float, now_s: float) -> None:
        """An attempt failed; so often they fail lately."""
        params = self._params
        self.failed_in_row += 1
        if self.failed_in_row >= params.failing_in_row or failure_chance >= params.failing_chance:
            doublings = min(max(0, self.failed_in_row - params.failing_in_row), 10)
            self.held_until_s = now_s + min(params.failing_hold_s * 2.0**doublings, params.failing_hold_max_s)

    def served(self) -> None:
        """A first token or a whole answer came."""
        self.failed_in_row = 0
        self.held_until_s = float("-inf")

    def tried(self, now_s: float) -> None:
        """A request goes there; until it has shown something, no other needs to find out the same."""
        if self.failed_in_row >= self._params.failing_in_row:
            self.held_until_s = max(self.held_until_s, now_s + self._params.failing_hold_s)

    def comes_last(self, now_s: float, probe_fails: bool, *, retry: bool) -> bool:
        """Whether others are to be preferred. A retry is pickier: its request has lost time already."""
        if now_s < self.held_until_s or (probe_fails and self.unanswered >= self._params.trial_places):
            return True
        return retry and self.failed_in_row > 0

    @property
    def doubtful(self) -> bool:
        """Whether ``comes_last`` has to be asked at all."""
        return self.failed_in_row > 0 or self.held_until_s > float("-inf")
