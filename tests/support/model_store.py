"""A store in this process, made of core/quota, and lines to it that are long, are cut, and lose questions or answers.

``ModelLink`` stands where RedisLink does in production; everything behind it is what runs there. Use it in virtual time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any

from bench.guard.store import questions
from router.core import quota
from router.core.limits import INDEX, KINDS, NOTHING, Limits, Shape, Units
from router.core.quota import Account, Standing
from router.store.courier import Command, LinkError
from router.store.patience import Patience

_K = len(KINDS)


@dataclass
class _OfPurse:
    """The store's record of one purse."""

    number: int = 0
    taken: Units = NOTHING


class ModelServer:
    """Accounts, as the Lua scripts keep them."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self.step_s = 0.0  # by which its clock is wrong
        self.accounts: dict[str, Account] = {}
        self.purses: dict[str, _OfPurse] = {}
        self.routers: dict[str, float] = {}
        self.mark: bytes | None = None
        self.calls = 0

    def lose_everything(self) -> None:
        self.accounts, self.purses, self.routers, self.mark = {}, {}, {}, None

    @property
    def now_us(self) -> int:
        return int((self._now_s() + self.step_s + 1_800_000_000) * 1e6)

    def do(self, command: Command) -> Any:
        self.calls += 1
        words = command.words
        if command.script is None:
            return self._plain(words)
        number = int(words[2])
        keys, args = [str(k) for k in words[3 : 3 + number]], list(words[3 + number :])
        if command.script.name in ("reserve", "grant", "settle", "look"):
            return self._of_account(command.script.name, keys, args)
        return self._heartbeat(args) if command.script.name == "heartbeat" else []

    def _plain(self, words: Sequence[Any]) -> Any:
        if words[0] == "HMGET":
            taken = self.purses.get(words[1], _OfPurse()).taken
            by_field = {kind.field: b"%d" % taken[i] for i, kind in enumerate(KINDS)}
            return [by_field[name] for name in words[2:]]
        if words[0] == "HSCAN":
            return 0, {}
        return {} if words[0] == "HGETALL" else None

    def _heartbeat(self, args: list[Any]) -> list[Any]:
        router, silence_ms, mark = args
        now_s = self._now_s()
        self.routers[router] = now_s
        self.routers = {r: s for r, s in self.routers.items() if now_s - s <= silence_ms / 1000}
        self.mark = self.mark or mark
        return [self.now_us, len(self.routers), 0, self.mark, 0, 0]

    def _of_account(self, name: str, keys: list[str], args: list[Any]) -> list[int]:
        lease_us, seen = int(args[1]), str(args[2 + _K])
        limits = Limits(*(None if most < 0 else most for most in args[2 : 2 + _K]))
        rest, now_us = args[3 + _K :], self.now_us
        account = self.accounts.setdefault(keys[0], Account())
        if seen:
            at_us, *used = map(int, seen.split())
            quota.put_back(account, limits, now_us, Standing(at_us, tuple(used)), lease_us=lease_us)
        if name == "look":
            quota.advance(account, now_us, lease_us)
            return _reply([], account, limits)
        of_purse = self.purses.setdefault(keys[2], _OfPurse())
        if name == "reserve":
            words: list[int] = []
            for cost, names in questions(rest):
                no = quota.reserve(account, limits, now_us, cost, slots=names, lease_us=lease_us)
                if no is None:
                    of_purse.taken = _added(of_purse.taken, cost)
                words += [0, 0, 0] if no is None else [INDEX[no.limit] + 1, int(no.never), no.wait_us]
            return _reply(words, account, limits)
        units = tuple(rest[:_K])
        if name == "grant":
            slots = rest[_K + 2 :]
            taken = quota.grant(account, limits, now_us, units, slots=slots, divisor=rest[_K], lease_us=lease_us)
            of_purse.taken = _added(of_purse.taken, taken)
            return _reply([*taken], account, limits)
        taken_us, number, released, dropped, *slots = rest[_K:]
        kept = released + dropped
        fresh, stale = of_purse.number < number, of_purse.number > number
        of_purse.number = max(number, of_purse.number)
        quota.settle(
            account,
            limits,
            now_us,
            units if fresh else NOTHING,
            taken_us=taken_us,
            release=slots[:released],
            drop=slots[released:kept],
            renew=() if stale else slots[kept:],
            lease_us=lease_us,
        )
        return _reply([int(fresh)], account, limits)


def _added(taken: Units, more: Sequence[int]) -> Units:
    """Slots are not counted: they have names."""
    return tuple(0 if kind.shape is Shape.SLOTS else n for kind, n in zip(KINDS, map(add, taken, more), strict=True))


def _reply(words: list[int], account: Account, limits: Limits) -> list[int]:
    standing = account.standing()
    used = [n if kind.field or limits.slots is not None else 0 for kind, n in zip(KINDS, standing.used, strict=True)]
    return [*words, standing.now_us, standing.born_us, *used]


@dataclass
class ModelLink:
    """A line of ``rtt_s``, give or take. While ``cut``, nothing passes. Questions under way when it is cut fail: each
    question was lost before the store got it, or its answer was, or the store gets it later (``straggling``)."""

    server: ModelServer
    rtt_s: float
    rng: random.Random
    patience: Patience = field(default_factory=Patience)
    cut: bool = False
    _arrival_s: float = 0.0
    _under_way: set[asyncio.Future[None]] = field(default_factory=set)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        loop = asyncio.get_running_loop()
        sent_s = loop.time()
        if self.cut:
            await asyncio.sleep(self.patience.give_up_s)
            raise LinkError("no answer")
        ends: asyncio.Future[None] = loop.create_future()
        self._under_way.add(ends)
        replies: list[Any] = []
        try:
            self._arrival_s = max(self._arrival_s, sent_s + self._half_s())
            if await self._ended(ends, self._arrival_s - sent_s):
                if self.rng.random() < 0.5:
                    loop.call_later(self.rng.uniform(0.0, 5.0), self._do_all, commands, replies)
                raise LinkError("the connection ended before the question came")
            self._do_all(commands, replies)
            if await self._ended(ends, self._half_s()):
                raise LinkError("the connection ended before the answer came")
        finally:
            self._under_way.discard(ends)
        self.patience.answered(loop.time() - sent_s, loop.time())
        return replies

    def break_off(self) -> None:
        """Every connection ends; new ones work."""
        for ends in list(self._under_way):
            if not ends.done():
                ends.set_result(None)

    def _do_all(self, commands: Sequence[Command], replies: list[Any]) -> None:
        replies += [self.server.do(command) for command in commands]

    async def _ended(self, ends: asyncio.Future[None], after_s: float) -> bool:
        done, _ = await asyncio.wait([ends], timeout=after_s)
        return bool(done)

    def _half_s(self) -> float:
        return self.rtt_s / 2 * self.rng.uniform(0.9, 1.1)

    async def drop(self) -> None:
        self.break_off()

    async def eviction_policy(self) -> str | None:
        return "noeviction"

    async def listen(self, channel: str, heard: Callable[[bytes | None], None]) -> None:
        await asyncio.sleep(1e9)

    async def close(self) -> None:
        self.break_off()
