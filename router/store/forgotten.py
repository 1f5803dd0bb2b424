"""Where an account stood before the store lost it: a flush, or a replica that was promoted too early.

Answers may overtake each other, as they come over several connections. Pure.
"""

from __future__ import annotations

from router.core.quota import STEP_BACK_US, Standing


class Forgotten:
    """Of one account. ``recalled``: where it stood for the router before this one."""

    __slots__ = ("_before", "_recalled")

    def __init__(self, recalled: Standing | None = None) -> None:
        self._before: Standing | None = None
        self._recalled = recalled

    def __repr__(self) -> str:
        return f"<Forgotten {'untold' if self._before is not None else 'none'}>"

    def overtaken(self, known: Standing, answer: Standing) -> bool:
        """Is this answer older than what is known? If the account was lost in between, the older is remembered."""
        if answer.born_us > known.born_us:
            self._remember(known)
            return False
        older = 0 < known.now_us - answer.now_us < STEP_BACK_US  # else the store's clock was put back
        if older and answer.now_us < known.born_us:
            self._remember(answer)
        return older

    def _remember(self, standing: Standing) -> None:
        if self._before is None or self._before.now_us < standing.now_us:
            self._before = standing

    def tell(self, known: Standing | None) -> Standing | None:
        """A standing that the store may have lost: one that this router saw, once; else the one that it knows now."""
        told, self._before = self._before, None
        return told or known or self._recalled
