"""A request reserves by habit as long as everything in flight may run to its most without breaking a limit.

A client's answers may be short for a thousand requests and run to ``max_tokens`` in the next sixty at once. A request
in flight is *exposed* by the difference: it was reserved by habit, and may use more. Habit is good enough while the
account has room for all of that; near a limit it is not. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from router.core.limits import Limits, Units


def may_break(usual: Units, most: Units, exposed: Sequence[int], room: Sequence[int], counted: Iterable[int]) -> bool:
    """With this request reserved by habit, is more exposed than there is ``room`` for, of any of these kinds?"""
    for i in counted:
        extra = most[i] - usual[i]
        if extra > 0 and exposed[i] + extra > room[i]:
            return True
    return False


def capped(usual: Units, most: Units, limits: Limits) -> Units:
    """The most, but of no limit more than the whole: a maximum beyond it is seldom meant, and habit says otherwise."""
    capped = list(most)
    for i, _, limit in limits.active:
        capped[i] = min(most[i], max(limit, usual[i]))
    return tuple(capped)


def needed(most: Units, uncovered: Sequence[int], limits: Limits) -> Units:
    """Its most and all that is exposed already must be free; of no limit more than the whole."""
    need = list(most)
    for i, _, limit in limits.active:
        need[i] = max(most[i], min(most[i] + uncovered[i], limit))
    return tuple(need)
