"""One purse's own count of what it has taken from its account, to compare with the count that the store keeps.

An answer that is lost on the way was given all the same: what it tells of has been taken, and nobody here knows. The
difference of the two counts is that, once no question is under way; it is put into the purse. A question that still
travels then is found by a second comparison. Pure: time is handed in.
"""

from __future__ import annotations

from operator import add, sub

from router.core.limits import NOTHING, SLOTS, Units

#: The second comparison comes this long after an answer was lost: a line may hold a question back and deliver it later.
AGAIN_S = 10.0


class Taken:
    """``units`` counts what answers told of; ``questions`` are under way. ``comparing``: so is a comparison."""

    __slots__ = ("_again_s", "_lost", "_serial", "comparing", "questions", "units")

    def __init__(self) -> None:
        self.units = NOTHING
        self.questions = 0
        self.comparing = False
        self._serial = 0
        self._lost = False  # an answer, since the counts were compared
        self._again_s: float | None = None  # when they are compared once more

    def __repr__(self) -> str:
        return f"<Taken {self.questions} under way{', one lost' if self._lost else ''}>"

    @property
    def quiet(self) -> bool:
        """Nothing is under way, and nothing is to be found."""
        return not self.questions and not self._lost and self._again_s is None

    def asked(self) -> None:
        self.questions += 1
        self._serial += 1

    def answered(self, taken: Units) -> None:
        self.questions -= 1
        self.units = tuple(map(add, self.units, taken))

    def unanswered(self, now_s: float) -> None:
        """No answer will come. The store may have heard the question."""
        self.questions -= 1
        self._lost, self._again_s = True, now_s + AGAIN_S

    def due(self, now_s: float) -> int | None:
        """A number for ``found``, if it is time to compare."""
        if (
            self.comparing
            or self.questions
            or not (self._lost or (self._again_s is not None and now_s >= self._again_s))
        ):
            return None
        return self._serial

    def found(self, number: int, theirs: Units, asked_s: float) -> Units | None:
        """Compare with the store's own count, asked for at that time. Returns the units that were taken unknown to us;
        None: cannot be told, because something was asked meanwhile."""
        if self._serial != number or self.questions:
            return None
        missing = tuple(map(sub, theirs, _named_apart(self.units)))
        self.units = theirs
        if self._again_s is not None and asked_s >= self._again_s:
            self._again_s = None
        self._lost = False
        return missing if min(missing) >= 0 else NOTHING  # the store has forgotten its count


def _named_apart(units: Units) -> Units:
    """Without slots, which have names and need no count."""
    return (*units[:SLOTS], 0, *units[SLOTS + 1 :])
