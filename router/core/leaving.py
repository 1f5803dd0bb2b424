"""Backends that go away at a known time, as spot machines and pods do, and when their requests are handed over.

From the notice on such a backend gets no new requests. Answers that end before the time are left alone. The others are
handed over in the last part of it, one after the other, so that those who take them are not flooded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from router.core.params import Params

if TYPE_CHECKING:
    from router.core.configured import Configured


class Notice(NamedTuple):
    """That a backend or a region goes away at ``until_s``. It was given at ``since_s``, ``by`` somebody."""

    since_s: float
    until_s: float
    by: str = ""

    def window(self, params: Params) -> tuple[float, float]:
        """From when to when its requests are handed over: the end of the notice, less some time to spare."""
        whole_s = max(0.0, self.until_s - self.since_s)
        end_s = self.until_s - min(params.hand_over_spare_s, params.hand_over_spare_ratio * whole_s)
        return end_s - min(params.hand_over_s, params.hand_over_ratio * max(0.0, end_s - self.since_s)), end_s


class Withdrawals:
    """Who gets no new requests because somebody said so. Operators name backends and regions, and mean those that are
    configured later, too. The words of sources are kept apart: neither ends what the other has said."""

    __slots__ = ("_asleep", "_drained", "_sourced", "_unready", "notices")

    def __init__(self) -> None:
        self._drained: set[str] = set()
        self._asleep: set[str] = set()
        self.notices: dict[str, Notice] = {}
        self._sourced: Mapping[str, Notice] = {}
        self._unready: Collection[str] = ()

    def drain(self, name: str, draining: bool) -> None:
        (self._drained.add if draining else self._drained.discard)(name)

    def put_to_sleep(self, name: str, asleep: bool) -> None:
        (self._asleep.add if asleep else self._asleep.discard)(name)

    def give_notice(self, name: str, notice: Notice | None) -> None:
        self.notices.pop(name, None)
        if notice is not None:
            self.notices[name] = notice

    def source(self, notices: Mapping[str, Notice], unready: Collection[str]) -> None:
        """All that sources say now, by names of backends."""
        self._sourced, self._unready = notices, unready

    def tell(self, b: Configured) -> bool:
        """Bring ``b`` in line. Returns whether that changes anything."""
        found = [self.notices[name] for name in (b.name, b.region) if name in self.notices]
        if b.name in self._sourced:
            found.append(self._sourced[b.name])
        leaves = b.leave(min(found, key=lambda notice: notice.until_s, default=None))
        sleeps, holds = b.sleep(b.name in self._asleep), b.hold(b.name in self._unready)
        return b.drain(not self._drained.isdisjoint((b.name, b.region))) or sleeps or leaves or holds

    @property
    def any_notice(self) -> bool:
        return bool(self.notices or self._sourced)


class Pace:
    """How quickly the requests of one backend are handed over: evenly, and none is left at the end of the window."""

    __slots__ = ("_at_s", "_owed")

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._owed = 0.0

    def due(self, left: int, notice: Notice, params: Params, now_s: float) -> int:
        """How many of the ``left`` are to go now. Call it again and again."""
        from_s, end_s = notice.window(params)
        if now_s >= end_s:
            return left
        before_s = from_s if self._at_s is None else max(from_s, self._at_s)
        self._at_s = now_s
        if now_s <= before_s:
            return 0
        self._owed += left * (now_s - before_s) / (end_s - before_s)
        due = min(left, int(self._owed))
        self._owed -= due
        return due
