"""How long to wait for the store: as long as its answers have taken lately, and a margin by how much that varies.

This is the retransmission timer of TCP (RFC 6298): a smoothed round trip and four times its mean deviation, doubled for
each silence in a row. Pure: time is handed in.
"""

from __future__ import annotations

#: The longest that a request waits for a store that is nearer than this, if it can do without.
WAIT_S = 0.1
#: What is assumed of a store that has not answered yet.
FIRST_S = 1.0
#: However far and unsteady it is, a store that is silent for this long is away.
ANSWER_S_MAX = 2.0
#: A connection takes several round trips: TCP, TLS, a password, a database; with sentinels more.
CONNECT_S = 5.0
#: A pipeline may have to be sent twice, as when a script is not loaded; then it is given up and its connection closed,
#: but not as soon as a server merely halts for a moment.
TRIPS = 3
GIVE_UP_S_MIN = 1.0
#: A store is as near as its quickest answer within this time, and up to twice this time.
WINDOW_S = 30.0
#: Weights of RFC 6298.
_SMOOTHED, _DEVIATION = 1 / 8, 1 / 4


class Patience:
    """``wait_s``: what a request may wait for a near store, and the least that passes before silence counts."""

    __slots__ = ("_best_s", "_best_since_s", "_deviation_s", "_misses", "_trip_s", "_was_best_s", "wait_s")

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self.wait_s = wait_s
        self._trip_s: float | None = None
        self._deviation_s = 0.0
        self._misses = 0
        self._best_s = self._was_best_s = 0.0  # the quickest of this window and of the one before
        self._best_since_s = 0.0

    def __repr__(self) -> str:
        trip = "?" if self._trip_s is None else f"{self._trip_s * 1000:.1f}±{self._deviation_s * 1000:.1f}"
        return f"<Patience round trip {trip} ms, answers {self.answer_s * 1000:.0f} ms>"

    def answered(self, trip_s: float, now_s: float) -> None:
        """An answer came, also if it came too late."""
        trip_s = max(0.0, trip_s)
        self._misses = 0
        if self._trip_s is None:
            self._trip_s, self._deviation_s = trip_s, trip_s / 2
            self._best_s = self._was_best_s = trip_s
            self._best_since_s = now_s
            return
        self._deviation_s += _DEVIATION * (abs(trip_s - self._trip_s) - self._deviation_s)
        self._trip_s += _SMOOTHED * (trip_s - self._trip_s)
        if now_s - self._best_since_s >= WINDOW_S:
            self._was_best_s, self._best_s, self._best_since_s = self._best_s, trip_s, now_s
        self._best_s = min(self._best_s, trip_s)

    def missed(self) -> None:
        """No answer came in ``answer_s``."""
        self._misses += 1

    def begin_anew(self) -> None:
        """The store may be another one, elsewhere."""
        self._trip_s, self._deviation_s, self._misses = None, 0.0, 0

    @property
    def distance_s(self) -> float:
        """How far the store is: the quickest round trip lately, without the delays of a busy process or line."""
        return 0.0 if self._trip_s is None else min(self._best_s, self._was_best_s)

    @property
    def trip_s(self) -> float:
        """Nearly every round trip stays below this."""
        return FIRST_S if self._trip_s is None else self._trip_s + 4 * self._deviation_s

    @property
    def answer_s(self) -> float:
        """Silence for this long counts against the store."""
        return min(max(self.trip_s, self.wait_s) * (1 << min(self._misses, 4)), max(ANSWER_S_MAX, self.wait_s))

    @property
    def request_s(self) -> float:
        """A request that can be served on credit waits no longer than this: ``wait_s``, or one round trip to a store
        that is farther away, for which as much again is granted: a burst of questions takes longer than one."""
        return max(self.wait_s, min(2 * self.distance_s, self.answer_s))

    @property
    def give_up_s(self) -> float:
        """A pipeline is given up after this."""
        return max(TRIPS * self.answer_s, GIVE_UP_S_MIN)
