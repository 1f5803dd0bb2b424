"""When a fault that lasts is worth another line in the log."""

from __future__ import annotations

_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 3600.0
#: different faults of one thing that are remembered
_TEXTS_MAX = 8


class Complaint:
    """What is wrong with one thing. A new fault is worth a line at once. The same fault is worth another line after a
    minute, then after two, four and so on up to an hour, whether it lasted or came and went meanwhile.
    """

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, float]] = {}  # text -> (next line is due, pause before the one after that)
        self._open = False  # a line was written since all was well

    def worth_a_line(self, text: str, now_s: float) -> bool:
        """The fault is there, or still there."""
        due_s, pause_s = self._said.get(text, (now_s, _FIRST_PAUSE_S))
        if now_s < due_s:
            return False
        if now_s - due_s > _LONGEST_PAUSE_S:
            pause_s = _FIRST_PAUSE_S  # it is long ago
        self._said.pop(text, None)
        if len(self._said) >= _TEXTS_MAX:
            del self._said[next(iter(self._said))]
        self._said[text] = (now_s + pause_s, min(2.0 * pause_s, _LONGEST_PAUSE_S))
        self._open = True
        return True

    def settled(self) -> bool:
        """All is well. Returns whether that is worth a line, because a fault was told before."""
        was_open, self._open = self._open, False
        return was_open
