"""The purses of one router, and their messages to the store: settlements, allowances, renewals.

Messages are sent in batches; no request waits for them.

A purse is visited soon after something happened to it, and every WATCH_S while it is busy or holds slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from router.core.limits import MICRO, NOTHING, RATES, SUMS, Limits, Shape, Units
from router.core.quota import Standing
from router.core.scopes import KEY
from router.store.alone import Sharers
from router.store.base import Holder
from router.store.courier import Command, Courier, LinkError, call
from router.store.degraded import Recalled
from router.store.forgotten import Forgotten
from router.store.purse import Purse, Settlement
from router.store.scripts import (
    Scripts,
    Word,
    account_keys,
    grant_args,
    head,
    purse_keys,
    read_grant,
    read_settle,
    read_taken,
    settle_args,
    taken_by,
)

FLUSH_S = 0.025
WATCH_S = 0.25
#: A store that answers within this time is asked; one farther away would be felt, so keys hold something ahead of need.
FAR_S = 0.002
#: Keys that hold something while nobody uses them.
KEPT_MAX = 1024
#: A purse that was not used for this long is dropped.
FORGET_S = 60.0


#: The end of a router waits for the store to hear what is given back: this long, or this number of round trips.
LAST_WORDS_S = 0.2
LAST_TRIPS = 5
#: Most accounts with spent sums that are remembered after their purse was dropped.
MEMORIES_MAX = 16_384


class Memory(NamedTuple):
    """Where an account stood when this router last saw it."""

    account: str
    limits: Limits
    standing: Standing
    at_s: float

    def matters(self, now_s: float) -> bool:
        """Something was used that time has not given back yet."""
        ago_us = (now_s - self.at_s) * MICRO
        return spent(self.standing) or any(self.standing.used[i] > ago_us for i in RATES)


def spent(standing: Standing) -> bool:
    """A sum was used, which only the end of its period gives back."""
    return any(standing.used[i] for i, _ in SUMS)


def held_by(purse: Purse) -> Units:
    """The units that a purse holds ahead of need, of the limits that there are; those that it owes are negative."""
    held = list(NOTHING)
    for i, shape, _ in purse.limits.active:
        held[i] = len(purse.slots.idle) if shape is Shape.SLOTS else purse.balance[i]
    return tuple(held)


class Ledger:
    """``lease_s`` is how long slots outlive their router."""

    def __init__(
        self,
        courier: Courier,
        scripts: Scripts,
        router: str,
        *,
        lease_s: float,
        monotonic_s: Callable[[], float],
        sharers: Sharers,
    ) -> None:
        self._courier = courier
        self._scripts = scripts
        self._router = router
        self._lease_s = lease_s
        self._lease_us = int(lease_s * MICRO)
        self._monotonic_s = monotonic_s
        self._sharers = sharers
        self._serial = itertools.count(1)
        self._dirty: set[Purse] = set()
        self._watched: set[Purse] = set()
        self._kept: OrderedDict[Purse, None] = (
            OrderedDict()
        )  # not watched, but visited before their slots' lease is over
        self._wake = asyncio.Event()
        self.purses: dict[str, Purse] = {}
        #: where an account stood for the router before this one
        self.recalled: Callable[[str], Standing | None] = lambda _: None
        self._memories: OrderedDict[str, Memory] = OrderedDict()  # of purses that were dropped, with a sum spent

    def __repr__(self) -> str:
        visits = f"{len(self._watched)} watched, {len(self._kept)} kept, {len(self._dirty)} to visit"
        return f"<Ledger {len(self.purses)} purses, {visits}>"

    def purse(self, holder: Holder) -> Purse:
        purse = self.purses.get(holder.id)
        if purse is None:
            now_s, name = self._monotonic_s(), f"{self._router}.{next(self._serial):x}"
            purse = Purse(holder.id, holder.plan, now_s, self._new_slot, name)
            purse.made_us = self._sharers.server_us(now_s)
            purse.shared = holder.scope is not KEY
            purse.forgotten = Forgotten(self.recalled(holder.id))
            self.purses[holder.id] = purse
            if (memory := self._memories.pop(holder.id, None)) is not None:
                purse.note(memory.standing, memory.at_s)
        elif purse.plan is not holder.plan:
            purse.adopt(holder.plan)
        return purse

    def held(self) -> dict[str, Units]:
        """Of all purses that hold something or owe it, by account."""
        return {account: held for account, purse in self.purses.items() if any(held := held_by(purse))}

    def keep(self, purse: Purse, cost: Units) -> None:
        """A request asks the store: if that is far away, the next such requests shall not have to. Nor where many keys
        share the account: as a rule a request asks for one account, however many it takes from."""
        if purse.shared or self._courier.patience.distance_s > FAR_S:
            purse.keep(cost, self._sharers.routers, self._monotonic_s())

    def touch(self, purse: Purse) -> None:
        """Something happened to a purse: visit it soon. Needs no call while ``purse.dirty``."""
        if not self._dirty:
            self._wake.set()
        purse.dirty = True
        self._dirty.add(purse)

    def ask(self, purse: Purse) -> None:
        """Ask for an allowance now, if the purse is low."""
        if not self._courier.up or (want := purse.want(self._monotonic_s())) is None:
            return
        cost, slots = want
        purse.asking = True
        args = [*self.head(purse), *grant_args(cost, 2 * self._sharers.routers, slots)]
        command = call(self._scripts.grant, purse_keys(purse.account, purse.name), args)
        until_s = self._monotonic_s() + self._lease_s
        purse.taken.asked()
        future = self._courier.post(
            command, partial(self._granted_late, purse, slots, until_s), lost=partial(self.lost, purse, slots)
        )
        future.add_done_callback(partial(self._granted, purse, slots, until_s))

    def head(self, purse: Purse) -> list[Word]:
        return head(purse.limits, self._lease_us, purse.tell())

    def lost(self, purse: Purse, slots: tuple[str, ...]) -> None:
        """A question has no answer and will have none; it may have taken something, and these slots."""
        purse.taken.unanswered(self._monotonic_s())
        purse.slots.lost(slots)
        self.touch(purse)

    def settle_command(self, purse: Purse, message: Settlement | None, renew: tuple[str, ...]) -> Command:
        """Without a message it renews slots only, beside whatever was said last."""
        number, back, taken_us, release, drop = message or (purse.number, NOTHING, 0, (), ())
        args = settle_args(back, taken_us, number, release, drop, renew)
        keys = purse_keys(purse.account, purse.name)
        return call(self._scripts.settle, keys, [*self.head(purse), *args])

    def send(self, purse: Purse, *, everything: bool = False) -> None:
        """Send a settlement if there is something to settle or to renew, none is under way, and the store is up."""
        if purse.sending or not self._courier.up:
            return
        now_s = self._monotonic_s()
        again = purse.outgoing is not None
        message = purse.settlement(now_s, everything=everything)
        renew = () if everything else purse.slots.due(now_s, self._lease_s)  # what is left after the releases
        if message is None and not renew:
            return
        purse.sending = True
        future = self._courier.post(self.settle_command(purse, message, renew))
        future.add_done_callback(partial(self._settled, purse, renew, now_s, again))

    async def run(self) -> None:
        """Visit purses until cancelled."""
        next_watch_s = next_kept_s = next_forget_s = 0.0
        while True:
            if not self._dirty:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    pause_s = WATCH_S if self._watched else self._lease_s / 4 if self._kept else FORGET_S
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()
            await asyncio.sleep(FLUSH_S)
            now_s = self._monotonic_s()
            visit = self._dirty
            self._dirty = set()
            if now_s >= next_watch_s:
                next_watch_s = now_s + WATCH_S
                visit |= self._watched
            if now_s >= next_kept_s:
                next_kept_s = now_s + self._lease_s / 4
                visit |= self._kept.keys()
            for purse in visit:
                self._visit(purse, now_s)
            if now_s >= next_forget_s:
                next_forget_s = now_s + FORGET_S
                self._put_away(now_s)

    async def flush(self) -> None:
        """Every request is over: give back everything, and wait until the store has it (or is away)."""
        end_s = self._monotonic_s() + max(LAST_WORDS_S, LAST_TRIPS * self._courier.patience.distance_s)
        while True:
            for purse in self.purses.values():
                purse.slots.all_over()
                self.send(purse, everything=True)
                self._compare(purse, self._monotonic_s())
            under_way = any(p.sending or p.taken.questions or p.taken.comparing for p in self.purses.values())
            if not under_way or self._monotonic_s() >= end_s or not self._courier.up:
                return
            await asyncio.sleep(0.01)

    def note(self, purse: Purse, standing: Standing) -> None:
        """The store answered for this purse. From now on everything that was given out without the store is a
        debt, even if only one answer was late."""
        purse.routers = self._sharers.routers
        purse.note(standing, self._monotonic_s())
        if purse.share is not None:
            purse.close_share(standing.now_us)
            self.touch(purse)

    def reopen(self, now_us: int) -> None:
        """The store is back: settle up with it."""
        for purse in self.purses.values():
            purse.close_share(now_us)
            self.touch(purse)

    def put_back(self) -> list[Command]:
        """The store has lost its data: commands that tell it the last known state of each account. It takes the highest
        use that any router saw; use that no router saw is forgotten."""
        now_s = self._monotonic_s()
        purses = self.purses.values()
        known = [Memory(p.account, p.limits, s, p.standing_s) for p in purses if (s := p.tell()) is not None]
        return [
            call(self._scripts.look, account_keys(m.account), head(m.limits, self._lease_us, m.standing))
            for m in (*known, *self._memories.values())
            if m.matters(now_s)
        ]

    def known(self) -> Iterator[tuple[str, Recalled]]:
        """Where accounts stand of which something was used that time has not given back."""
        now_s = self._monotonic_s()
        for account, memory in self._memories.items():
            yield account, Recalled(memory.standing._replace(born_us=0))
        for account, purse in self.purses.items():
            seen = purse.standing
            if purse.share is not None:
                yield account, purse.share.known()
            elif seen is not None and Memory(account, purse.limits, seen, purse.standing_s).matters(now_s):
                yield account, Recalled(seen._replace(born_us=0))

    def forget(self, account: str) -> None:
        """An account was reset: where it stood before must not be put back."""
        self._memories.pop(account, None)
        if (purse := self.purses.get(account)) is not None:
            purse.forget()

    def renew_all(self) -> None:
        """The store may have lost its slots: hold them again."""
        for purse in self.purses.values():
            if purse.slots.held:
                purse.slots.renew_s = 0.0
                self.touch(purse)

    def _new_slot(self) -> str:
        return f"{self._router}.{next(self._serial):x}"

    def _visit(self, purse: Purse, now_s: float) -> None:
        purse.dirty = False
        distance_s = self._courier.patience.distance_s
        purse.kept = purse.kept and (purse.shared or distance_s > FAR_S)  # the first answers are slow on a busy machine
        purse.roll(now_s, distance_s)
        self.send(purse)
        if purse.holds:
            self.ask(purse)
        self._compare(purse, now_s)
        self._kept.pop(purse, None)
        if purse.busy or purse.outgoing is not None or purse.slots.used or not purse.taken.quiet:
            self._watched.add(purse)
            return
        self._watched.discard(purse)
        if purse.kept:
            self._kept[purse] = None
            if len(self._kept) > KEPT_MAX:
                longest, _ = self._kept.popitem(last=False)
                longest.kept = False
                self.touch(longest)

    def _settled(
        self, purse: Purse, renew: tuple[str, ...], sent_s: float, again: bool, future: asyncio.Future[Any]
    ) -> None:
        purse.sending = False
        if future.cancelled() or future.exception() is not None:
            purse.slots.renew_s = min(purse.slots.renew_s, sent_s)
            self._watched.add(purse)  # sent again at the next visit
            return
        _, standing = read_settle(future.result())
        purse.acknowledged()
        purse.slots.renewed(renew, sent_s + self._lease_s)
        self.note(purse, standing)
        if again:
            self.touch(purse)  # more has happened in the meantime

    def _granted(self, purse: Purse, slots: tuple[str, ...], until_s: float, future: asyncio.Future[Any]) -> None:
        purse.asking = False
        if future.cancelled() or isinstance(future.exception(), LinkError):
            return
        grant, standing = read_grant(future.result())
        purse.granted(grant, slots, self._monotonic_s(), until_s)
        self.note(purse, standing)

    def _granted_late(self, purse: Purse, slots: tuple[str, ...], until_s: float, reply: list[int]) -> None:
        """An allowance that nobody waits for any more is given back like any surplus."""
        grant, _ = read_grant(reply)
        purse.granted(grant, slots, self._monotonic_s(), until_s)
        self.touch(purse)

    def _compare(self, purse: Purse, now_s: float) -> None:
        """After an answer was lost: ask what the store has counted."""
        if self._courier.up and (number := purse.taken.due(now_s)) is not None:
            purse.taken.comparing = True
            future = self._courier.post(Command(taken_by(purse_keys(purse.account, purse.name)[2])))
            future.add_done_callback(partial(self._found, purse, number, now_s))

    def _found(self, purse: Purse, number: int, asked_s: float, future: asyncio.Future[Any]) -> None:
        """The store's own count of what this purse has taken."""
        purse.taken.comparing = False
        if not future.cancelled() and future.exception() is None:
            missing = purse.taken.found(number, read_taken(future.result()), asked_s)
            if missing is not None:
                purse.put_back(missing, NOTHING, None)
        self.touch(purse)

    def _put_away(self, now_s: float) -> None:
        for purse in [p for p in self.purses.values() if p.spent_out(now_s, FORGET_S)]:
            del self.purses[purse.account]
            if purse.standing is not None and spent(purse.standing):
                memory = Memory(purse.account, purse.limits, purse.standing, purse.standing_s)
                self._memories[purse.account] = memory
                if len(self._memories) > MEMORIES_MAX:
                    self._memories.popitem(last=False)
