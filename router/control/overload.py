"""When this router has more to do than it can: noted in the history when that begins and when it ends."""

from __future__ import annotations

from collections.abc import Callable

from router.telemetry.history import History
from router.words import plural

KIND = "router"
OVERLOADED = "overloaded"
#: Later than this its event loop is late for everybody: the threshold of the alert LoopLag, too.
LATE_S = 0.25
#: It is well again when it was well for this long.
WELL_S = 10.0


class Overload:
    """``late_s``: how late the event loop was lately. ``shed``: requests that were refused without an attempt because
    as many waited as may, or because they waited in vain; a count that only grows."""

    def __init__(
        self,
        history: History,
        *,
        late_s: Callable[[], float],
        shed: Callable[[], int],
        now_s: Callable[[], float],
    ) -> None:
        self._history = history
        self._late_s = late_s
        self._shed = shed
        self._now_s = now_s
        self._seen = shed()
        self._since_s: float | None = None
        self._bad_s = 0.0  # when it last was not well
        self._latest_s = 0.0  # the latest that the loop was
        self._refused = 0

    def look(self) -> None:
        """To be called about once a second."""
        now_s, late_s, shed = self._now_s(), self._late_s(), self._shed()
        fresh, self._seen = shed - self._seen, shed
        late = late_s > LATE_S
        if late or fresh:
            self._bad_s = now_s
            begins = self._since_s is None
            if begins:
                self._since_s, self._latest_s, self._refused = now_s, 0.0, 0
            self._latest_s, self._refused = max(self._latest_s, late_s), self._refused + fresh
            if begins:
                self._history.note(KIND, self._history.router, before="serving", after=OVERLOADED, why=self._words())
        elif self._since_s is not None and now_s - self._bad_s >= WELL_S:
            why = f"after {now_s - self._since_s:.0f} s; {self._words()}"
            self._history.note(KIND, self._history.router, before=OVERLOADED, after="serving", why=why)
            self._since_s = None

    def _words(self) -> str:
        late = f"its event loop came {self._latest_s:.2f} s late again and again" if self._latest_s > LATE_S else ""
        refused = f"{plural(self._refused, 'refusal')} for want of a place" if self._refused else ""
        return " and ".join(filter(None, (late, refused)))
