"""The events of a stream that were passed on, some dozens at a time: counted, kept, and watched for loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from router.gateway.leash import Leash
from router.upstream.classify import DELIVERED

if TYPE_CHECKING:
    from router.core.loop_guard import LoopGuard
    from router.core.sse import StreamWatch
    from router.gateway.answer import Answer

#: How many events are passed on from one tally to the next.
_TALLY_EVENTS = 32
_TALLY_BYTES = 32 * 1024

W = TypeVar("W")


class StreamTally(Leash[W]):
    """``guard``: notices a text that repeats itself; None: nobody asks, or it was noticed."""

    __slots__ = ("_answer", "_full_events", "_keep", "_parts", "_watch", "guard")

    _answer: Answer
    _watch: StreamWatch | None  # of a stream
    guard: LoopGuard | None
    # of a committed stream: what was passed on since the last tally, how it is kept, and when the next one is due
    _parts: list[bytes]
    _keep: Callable[[bytes], None]
    _full_events: int

    def _begin_tally(self) -> None:
        self._parts = []
        self._keep = self._parts.append

    def tally(self) -> None:
        """Count what was passed on since the last time, and keep it."""
        data = b"".join(self._parts)
        self._parts.clear()
        self._answer.delivered_bytes += len(data)
        if self.transcript is not None:
            self.transcript.add(data)
        if self.guard is not None:
            self.guard.add(data, self.transcript)
        if self._watch is not None:
            few = len(data) > _TALLY_BYTES  # large events: a client that does not read must not cost much
            self._full_events = self._watch.events + (2 if few else _TALLY_EVENTS)

    def _tally_up(self) -> None:
        """Enough was passed on for a tally. Ends the answer if it repeats itself and its plan says so."""
        self.tally()
        guard = self.guard
        if guard is None or not guard.period_bytes or self.is_set or (self._watch is not None and self._watch.in_event):
            return
        self.guard = None
        if self._sender.repeats(self._whose, self, guard.period_bytes):
            self._outbound.abort()
            self._answer.end()
            self.set(DELIVERED)
