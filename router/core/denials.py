"""Models that a backend was believed to have and says it does not: an adapter that is gone, a list that is wrong.

After a denial the others get the model's requests. The backend gets them again when its time is over, and each further
denial doubles that time, so that a backend whose list is wrong costs few attempts.
"""

from __future__ import annotations

from router.core.params import Params

_INFINITE_S = float("inf")


class Denials:
    """Of one backend."""

    __slots__ = ("_denied", "_params")

    def __init__(self, params: Params) -> None:
        self._params = params
        self._denied: dict[str, tuple[float, float, bool]] = {}  # model -> until, for how long, still in force

    def add(self, model: str, now_s: float) -> None:
        """It has just said that it does not have ``model``."""
        params = self._params
        until_s, held_s, _ = self._denied.get(model, (-_INFINITE_S, 0.0, False))
        if now_s < until_s:
            return  # an attempt that was under way when the first one heard so
        recent = now_s - until_s < params.denial_max_s
        held_s = min(2.0 * held_s, params.denial_max_s) if recent else params.denial_s
        self._denied[model] = now_s + held_s, held_s, True

    def holds(self, model: str) -> bool:
        """Whether others are to be preferred for ``model``."""
        entry = self._denied.get(model)
        return entry is not None and entry[2]

    def due_s(self) -> float:
        """When the next one is over."""
        return min((until_s for until_s, _, holds in self._denied.values() if holds), default=_INFINITE_S)

    def expire(self, now_s: float) -> None:
        """End those whose time is over; how long they were is remembered for a while."""
        for model, (until_s, held_s, holds) in list(self._denied.items()):
            if now_s - until_s >= self._params.denial_max_s:
                del self._denied[model]
            elif holds and now_s >= until_s:
                self._denied[model] = until_s, held_s, False

    def keep(self, models: frozenset[str] | None) -> None:
        """Forget models that it does not list any more. ``models``: those that it lists now."""
        self._denied = {model: entry for model, entry in self._denied.items() if models is None or model in models}
