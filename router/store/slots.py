"""The slots that one router holds of one account: places for requests in progress, each leased from the store.

A lease is counted from when the command was sent that took or renewed the slot, so it ends here before it ends in the
store. An idle slot whose lease may be over is not used again: somebody else may have its place. One in use is renewed
whatever happens, because its request goes on.

Pure: time is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

#: An idle slot with less of its lease left than this part is given up, not renewed: the renewal could come too late.
MARGIN = 1 / 4


class Slots:
    """``held`` are all slots, in use or not, with the time at which the lease of each is over: 0.0 for one that the
    store has not heard of. ``idle`` are those not in use; ``doomed`` are to be released, and so are ``maybe``: the
    store may never have had those."""

    __slots__ = ("_new", "_over_s", "doomed", "held", "idle", "maybe", "renew_s")

    def __init__(self, new: Callable[[], str], now_s: float) -> None:
        self._new = new
        self.held: dict[str, float] = {}
        self.idle: list[str] = []
        self.doomed: list[str] = []
        self.maybe: list[str] = []
        self.renew_s = now_s  # when to renew all
        self._over_s = math.inf  # no lease is over before this

    def __repr__(self) -> str:
        return f"<Slots {len(self.idle)} idle of {len(self.held)}>"

    @property
    def used(self) -> int:
        return len(self.held) - len(self.idle)

    @property
    def unknown(self) -> int:
        """How many are in use without the store having heard of them."""
        return sum(not until_s for until_s in self.held.values())

    def ready(self, now_s: float) -> bool:
        """Is there an idle one that is certainly leased?"""
        return bool(self.idle) and self.held[self.idle[-1]] > now_s

    def pop(self, now_s: float) -> tuple[str, bool]:
        """One for a request, and whether it is new to the store."""
        if self.ready(now_s):
            return self.idle.pop(), False
        self.give_up(now_s)
        return self._new(), True

    def offer(self, number: int) -> tuple[str, ...]:
        """Names for slots that the store may grant."""
        return tuple(self._new() for _ in range(number))

    def leased(self, slots: Iterable[str], until_s: float) -> None:
        """The store has these until then."""
        for slot in slots:
            self.held[slot] = until_s
            self._over_s = min(self._over_s, until_s)

    def renewed(self, slots: Iterable[str], until_s: float) -> None:
        """As ``leased``, for those that are still here. An answer that was overtaken shortens no lease."""
        for slot in slots:
            if slot in self.held:
                self.held[slot] = max(self.held[slot], until_s)
        self._over_s = min(self.held.values(), default=math.inf)

    def back(self, slot: str) -> None:
        """A request is over."""
        if slot in self.held:
            self.idle.append(slot)

    def lost(self, slots: Iterable[str]) -> None:
        """The store may have these, and nobody will hear of it: release them."""
        self.maybe += slots

    @property
    def any_over(self) -> bool:
        return bool(self.doomed or self.maybe)

    def over(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those to tell the store of, once: that were held, and that may never have been."""
        told = tuple(self.doomed), tuple(self.maybe)
        self.doomed, self.maybe = [], []
        return told

    def give_up(self, now_s: float, keep: int | None = None) -> None:
        """Release idle slots: those whose lease may be over at that time, and all beyond the first ``keep``."""
        if not self.idle or (now_s < self._over_s and (keep is None or len(self.idle) <= keep)):
            return
        stay = [slot for slot in self.idle if self.held[slot] > now_s][:keep]
        if len(stay) == len(self.idle):
            return
        for slot in set(self.idle).difference(stay):
            del self.held[slot]
            self.doomed.append(slot)
        self.idle = stay
        self._over_s = min(self.held.values(), default=math.inf)

    def all_over(self) -> None:
        """No request is in progress any more."""
        self.idle = list(self.held)

    def due(self, now_s: float, lease_s: float) -> tuple[str, ...]:
        """Those to renew now, if it is time."""
        if not self.held or now_s < self.renew_s:
            return ()
        self.give_up(now_s + MARGIN * lease_s)
        self.renew_s = now_s + lease_s / 3
        return tuple(self.held)
