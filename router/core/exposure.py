"""A request reserves by habit as long as everything in flight may run to its most without breaking a limit.

A client's answers may be short for a thousand requests and run to ``max_tokens`` in the next sixty at once. A request
in flight is *exposed* by the difference: it was reserved by habit, and may use more. Habit is good enough while the
account has room for all of that; near a limit it is not. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from router.core.limits import Limits, Shape, Units


def may_break(usual: Units, most: Units, exposed: Sequence[int], room: Sequence[int], counted: Iterable[int]) -> bool:
    """With this request reserved by habit, is more exposed than there is ``room`` for, of any of these kinds? It may be
    exposed by nothing itself, and still take the room of those that are."""
    return any(most[i] > 0 and exposed[i] + most[i] - usual[i] > room[i] for i in counted)


def beyond(most: Units, limits: Limits) -> bool:
    """Does it ask for more than the whole of a limit? Then it is refused, whatever habit says: an answer to "can this
    ever be served" must not change with what was answered before."""
    return any(most[i] > limit for i, shape, limit in limits.active if shape is not Shape.SLOTS)


def cut(guess: Units, least: Units, room: Iterable[tuple[int, int]]) -> Units:
    """A guess is cut to what there is room for, as (kind, units), so that it refuses nobody; what is certain is not.
    Never to nothing: what is used up lets nobody in, also whose prompt is free."""
    cut = list(guess)
    for i, units in room:
        cut[i] = max(least[i], min(guess[i], max(units, 1)))
    return tuple(cut)


def needed(most: Units, uncovered: Sequence[int], limits: Limits) -> Units:
    """Its most and all that is exposed already must be free; of no limit more than the whole."""
    need = list(most)
    for i, _, limit in limits.active:
        need[i] = max(most[i], min(most[i] + uncovered[i], limit))
    return tuple(need)
