"""What routers tell each other in order: entries of a capped stream, which all read and which stay for those that come
later.

The access list of a store may forbid it while all else works: then each router knows its own entries only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from router.store.courier import Command, Link, LinkError

#: Entries in one answer.
READ_MAX = 500
_FIELD = "d"


class Alive(Protocol):
    @property
    def up(self) -> bool: ...


class Streams:
    """A stream has a name, which is a key of the store. Its methods raise LinkError: the store is away, or refuses."""

    def __init__(self, link: Link, heart: Alive) -> None:
        self._link = link
        self._heart = heart

    def __repr__(self) -> str:
        return f"<Streams {'up' if self._heart.up else 'down'}>"

    async def append(self, name: str, entries: Sequence[bytes], *, keep: int) -> None:
        """Add entries; about the last ``keep`` of the stream stay."""
        await self._run([("XADD", name, "MAXLEN", "~", keep, "*", _FIELD, entry) for entry in entries])

    async def after(self, name: str, mark: str) -> list[tuple[str, bytes]]:
        """The oldest entries after the one with this mark, each with its own; READ_MAX at most."""
        (reply,) = await self._run([("XRANGE", name, _next(mark), "+", "COUNT", READ_MAX)])
        return _entries(reply)

    async def latest(self, name: str, most: int) -> list[tuple[str, bytes]]:
        """The last entries, oldest first."""
        (reply,) = await self._run([("XREVRANGE", name, "+", "-", "COUNT", most)])
        return _entries(reply)[::-1]

    async def _run(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not self._heart.up:
            raise LinkError("the store is away")
        replies = await self._link.run([Command(words) for words in commands])
        for reply in replies:
            if isinstance(reply, Exception):
                raise LinkError(f"refused: {reply}")
        return replies


def _next(mark: str) -> str:
    """The least mark that is greater. They are like 1700000000000-0."""
    time_ms, _, number = mark.partition("-")
    return f"{time_ms}-{int(number or 0) + 1}"


def _entries(reply: Any) -> list[tuple[str, bytes]]:
    """An entry without our field, which somebody else wrote, counts as an empty one."""
    return [(mark.decode(), (fields or {}).get(_FIELD.encode(), b"")) for mark, fields in reply or ()]
