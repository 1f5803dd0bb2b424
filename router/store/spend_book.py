"""The books of what was spent, a day and a month each, which all routers that share a store write.

A batch is added once, however often it is sent: its reply is kept for ten minutes. Books of days are kept for 40 days,
those of months for 400.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from router.core.limits import MICRO
from router.core.periods import DAY, DAY_US, MONTH, Period
from router.core.spending import (
    ACCOUNTS_MAX,
    DAY_S,
    OTHERS,
    ROWS_MAX,
    AccountSpent,
    Announced,
    Book,
    Charged,
    Crossing,
    Seen,
    Spender,
    Sums,
)
from router.store.courier import Command, Link, LinkError, call
from router.store.scripts import Script, Word
from router.store.streams import Alive

KEPT_S = {DAY.name: 40 * DAY_S, MONTH.name: 400 * DAY_S}
#: Most accounts whose last sight is remembered: of each, those of a day and of a month.
SEEN_MAX = 16_384
#: In one script call.
_TOLD_AT_ONCE = 500
_MEMORY_BOOKS = {DAY.name: 40, MONTH.name: 13}


#: Of one account in several periods.
Outlays = list[AccountSpent | None]


class Batch(NamedTuple):
    """The spending of one day since the last batch. ``name`` is its own among all routers. ``charged``: by the name
    of a period."""

    name: str
    day: int
    rows: Mapping[Spender, Sums]
    charged: Mapping[str, Sequence[Charged]]


class SpendBook(Protocol):
    """The methods raise LinkError while the store is away."""

    async def add(self, batch: Batch, now_s: float) -> list[tuple[Period, Crossing]]:
        """Write a batch into the books of its day and month. Returns the thresholds that are reached by it and were
        announced by nobody."""

    async def rows(self, period: Period, number: int) -> dict[Spender, Sums]:
        """Everything in one book."""

    async def spent(
        self, accounts: Sequence[str], period: Period, numbers: Sequence[int]
    ) -> list[list[AccountSpent | None]]:
        """For each account what it has spent in each of these periods."""

    async def forget(self, account: str, now_s: float) -> None:
        """An account was reset: its thresholds of this day and month may be announced again."""


def numbers_of(day: int) -> tuple[tuple[Period, int], ...]:
    """The books in which a day is."""
    return (DAY, day), (MONTH, MONTH.number(day * DAY_US))


def day_at(now_s: float) -> int:
    return int(now_s // DAY_S)


class MemorySpendBook:
    """Of a router that stands alone."""

    def __init__(self) -> None:
        self._books: dict[str, dict[int, Book]] = {DAY.name: {}, MONTH.name: {}}

    def __repr__(self) -> str:
        return f"<MemorySpendBook {sum(map(len, self._books.values()))} books>"

    async def add(self, batch: Batch, now_s: float) -> list[tuple[Period, Crossing]]:
        found: list[tuple[Period, Crossing]] = []
        for period, number in numbers_of(batch.day):
            books = self._books[period.name]
            book = books.setdefault(number, Book())
            while len(books) > _MEMORY_BOOKS[period.name]:
                del books[min(books)]
            crossed = book.add(batch.rows, batch.charged.get(period.name, ()), now_s)
            found += [(period, crossing) for crossing in crossed]
        return found

    async def rows(self, period: Period, number: int) -> dict[Spender, Sums]:
        return dict(self._book(period, number).rows)

    async def spent(
        self, accounts: Sequence[str], period: Period, numbers: Sequence[int]
    ) -> list[list[AccountSpent | None]]:
        return [[self._book(period, number).accounts.get(account) for number in numbers] for account in accounts]

    async def forget(self, account: str, now_s: float) -> None:
        for period, number in numbers_of(day_at(now_s)):
            self._book(period, number).accounts.pop(account, None)

    def _book(self, period: Period, number: int) -> Book:
        return self._books[period.name].get(number) or Book()


class SharedSpendBook:
    """Of all routers that share a store. Each remembers where it last saw the accounts that it charged, and tells it
    with the next charge and when the store has lost its data, so that no threshold is announced again."""

    def __init__(self, link: Link, heart: Alive, script: Script) -> None:
        self._link = link
        self._heart = heart
        self._script = script
        self._lock = asyncio.Lock()  # an answer from before a reset must not come after it
        self._seen: OrderedDict[tuple[str, int, str], Seen] = OrderedDict()  # by period, its number, and account

    def __repr__(self) -> str:
        return f"<SharedSpendBook {'up' if self._heart.up else 'down'}>"

    async def add(self, batch: Batch, now_s: float) -> list[tuple[Period, Crossing]]:
        periods = numbers_of(batch.day)
        found: list[tuple[Period, Crossing]] = []
        async with self._lock:
            replies = await self._run([self._command(batch, period, number, now_s) for period, number in periods])
            for (period, number), (crossed, now) in zip(periods, replies, strict=True):
                found += [(period, crossing) for crossing in read_crossings(crossed)]
                for account, seen in read_seen(now):
                    self._remember(period.name, number, account, seen)
        return found

    def put_back(self, now_s: float) -> list[Command]:
        """The store has lost its data: commands that tell it what this router last saw of the present day and month.
        All that was spent since then comes on top."""
        commands = []
        for period, number in numbers_of(day_at(now_s)):
            told = [a for name, n, a in self._seen if (name, n) == (period.name, number)]
            for at in range(0, len(told), _TOLD_AT_ONCE):
                charged = {period.name: [Charged(account) for account in told[at : at + _TOLD_AT_ONCE]]}
                batch = Batch(f"back-{secrets.token_hex(8)}", day_at(now_s), {}, charged)
                commands.append(self._command(batch, period, number, now_s))
        return commands

    def _remember(self, period: str, number: int, account: str, seen: Seen) -> None:
        self._seen[period, number, account] = seen
        self._seen.move_to_end((period, number, account))
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    def _command(self, batch: Batch, period: Period, number: int, now_s: float) -> Command:
        rows, accounts, records = _keys(period, number)
        keys = [rows, accounts, f"{{mr}}:spent:told:{batch.name}:{period.name}", records]
        args: list[Word] = [KEPT_S[period.name] * 1000, ROWS_MAX, ACCOUNTS_MAX, _row(OTHERS), int(now_s)]
        args += [int(now_s * MICRO), len(batch.rows)]
        for spender, sums in batch.rows.items():
            args += [_row(spender), *sums]
        for each in batch.charged.get(period.name, ()):
            limit = -1 if each.limit is None else each.limit
            seen = each.seen or self._seen.get((period.name, number, each.account))
            before: list[Word] = ["", ""] if seen is None else [seen.born, _value(seen.spent)]
            args += [each.account, each.microusd, limit, int(each.refused), *before]
        return call(self._script, keys, args)

    async def rows(self, period: Period, number: int) -> dict[Spender, Sums]:
        (reply,) = await self._run([Command(("HGETALL", _keys(period, number)[0]))])
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return {Spender(*orjson.loads(row)): Sums(*map(int, value.split())) for row, value in pairs}

    async def spent(
        self, accounts: Sequence[str], period: Period, numbers: Sequence[int]
    ) -> list[list[AccountSpent | None]]:
        if not accounts:
            return []
        commands = [Command(("HMGET", _keys(period, number)[1], *accounts)) for number in numbers]
        replies = await self._run(commands)
        return [
            [None if value is None else _account(value) for value in of_one] for of_one in zip(*replies, strict=True)
        ]

    async def forget(self, account: str, now_s: float) -> None:
        books = numbers_of(day_at(now_s))
        async with self._lock:
            await self._run([Command(("HDEL", _keys(period, number)[1], account)) for period, number in books])
            self.unsee(account, now_s)

    def unsee(self, account: str, now_s: float) -> None:
        """It was reset, perhaps by another router: what was seen of it before must not be put back."""
        for period, number in numbers_of(day_at(now_s)):
            self._seen.pop((period.name, number, account), None)

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        if not self._heart.up:
            raise LinkError("the store is away")
        replies = await self._link.run(commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise LinkError(f"refused: {reply}")
        return replies


def read_crossings(reply: Sequence[Any]) -> list[Crossing]:
    threes = zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    return [Crossing(str(account, errors="replace"), int(percent), int(spent)) for account, percent, spent in threes]


def read_seen(now: Sequence[Any]) -> Iterator[tuple[str, Seen]]:
    for account, born, value in zip(now[::3], now[1::3], now[2::3], strict=True):
        yield str(account, errors="replace"), Seen(int(born), _account(value))


def _value(spent: AccountSpent) -> str:
    """As the store keeps it."""
    return " ".join(map(str, (spent.microusd, spent.first_s, *(n for each in spent.told for n in each))))


def _account(value: bytes) -> AccountSpent:
    microusd, first_s, *told = map(int, value.split())
    return AccountSpent(microusd, first_s, tuple(map(Announced, told[::2], told[1::2])))


def _keys(period: Period, number: int) -> list[str]:
    """Of the rows, of the accounts, and of when their records began; the hash tag keeps them on one node of a
    cluster."""
    rows = f"{{mr}}:spent:{period.name}:{number}"
    return [rows, f"{rows}:by", f"{rows}:born"]


def _row(spender: Spender) -> bytes:
    return orjson.dumps(list(spender))
