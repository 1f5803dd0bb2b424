"""Small facts that routers share and may forget.

A *note* is a value under a digest, asked for one by one: which backend has a response. A *mark* is a digest that every
router knows within about a second and looks up without asking: a request that kills engines. Both expire, and
the number of each is limited: the oldest are dropped.

Pure: time is handed in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

NOTES_MAX = 65_536
MARKS_MAX = 256

#: the kind of notes that say which router does something
CLAIM = "claim"

#: The kind of a note or mark and its digest.
Name = tuple[str, str]


def note_key(kind: str, digest: str) -> str:
    """The key of a note in the shared store. It has no hash tag: notes spread over the nodes of a cluster."""
    return f"mr:note:{kind}:{digest}"


class Notes:
    """Values with a time to live, in this process."""

    __slots__ = ("_max", "_values")

    def __init__(self, maximum: int = NOTES_MAX) -> None:
        self._max = maximum
        self._values: OrderedDict[Name, tuple[float, str]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Notes {len(self._values)}>"

    def put(self, kind: str, digest: str, value: str, until_s: float) -> None:
        self._values[kind, digest] = (until_s, value)
        self._values.move_to_end((kind, digest))
        if len(self._values) > self._max:
            self._values.popitem(last=False)

    def get(self, kind: str, digest: str, now_s: float) -> str | None:
        found = self._values.get((kind, digest))
        if found is None:
            return None
        if found[0] <= now_s:
            del self._values[kind, digest]
            return None
        return found[1]

    def drop(self, kind: str, digest: str) -> None:
        self._values.pop((kind, digest), None)


class Marks:
    """Names with the time until which each is marked, and those that the other routers have not been told yet."""

    __slots__ = ("_monotonic_s", "_unsent", "_until_s")

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._until_s: dict[Name, float] = {}
        self._unsent: set[Name] = set()

    def __repr__(self) -> str:
        return f"<Marks {len(self._until_s)}, {len(self._unsent)} to tell>"

    def __bool__(self) -> bool:
        return bool(self._until_s)

    def put(self, kind: str, digest: str, ttl_s: float) -> None:
        name = (kind, digest)
        self._until_s[name] = self._monotonic_s() + ttl_s
        self._unsent.add(name)
        self._bound()

    def has(self, kind: str, digest: str) -> bool:
        if not self._until_s:
            return False
        until_s = self._until_s.get((kind, digest))
        return until_s is not None and self._monotonic_s() < until_s

    def unsent(self) -> list[tuple[Name, float]]:
        """Marks that the store does not have yet, and the seconds each has left."""
        now_s = self._monotonic_s()
        self._unsent = {n for n in self._unsent if self._until_s.get(n, 0.0) > now_s}
        return [(name, self._until_s[name] - now_s) for name in self._unsent]

    def told(self, names: Iterable[Name], known: Iterable[tuple[Name, float]]) -> list[Name]:
        """The store has taken ``names`` and returned all marks that it knows. Returns those that are new here."""
        self._unsent.difference_update(names)
        now_s = self._monotonic_s()
        self._until_s = {n: u for n, u in self._until_s.items() if u > now_s}
        new = []
        for name, left_s in known:
            if name not in self._until_s:
                new.append(name)
            self._until_s[name] = max(now_s + left_s, self._until_s.get(name, 0.0))
        self._bound()
        return new

    def tell_again(self) -> None:
        """The store has lost its data: send every mark again."""
        self._unsent = set(self._until_s)

    def _bound(self) -> None:
        excess = len(self._until_s) - MARKS_MAX
        if excess > 0:
            for name in sorted(self._until_s, key=self._until_s.__getitem__)[:excess]:
                del self._until_s[name]
                self._unsent.discard(name)
