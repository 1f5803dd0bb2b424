"""The store of a router that stands alone: everything is in this process and is lost when it ends."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from operator import add, neg, sub
from typing import Any

from router.config import Limited, Plan
from router.core.exposure import beyond, cut, may_break, needed
from router.core.limits import MICRO, NAMES, NOTHING, Amounts, Shape, Units, cost
from router.core.quota import Account, advance, reserve, settle, take_over
from router.store.answers import limit_states, refusal, remaining, shown
from router.store.base import Holder, Key, LimitState, Refusal, Reservation
from router.store.keys import PEPPER_ENV, Ring, new_key, new_pepper, rotated
from router.store.notes import CLAIM, Marks, Notes
from router.store.spend_book import MemorySpendBook, SpendBook
from router.store.streams import Streams

#: A slot is given back by the settlement of its request; nobody else could hold it, so it need not expire.
_LEASE_US = 10**15
_SCOPE = "this router"


class _Purse:
    """One account, with its limits as they were when the plan was last seen."""

    __slots__ = ("account", "counted", "exposed", "limits", "plan", "slotted", "unlimited")

    def __init__(self, plan: Limited) -> None:
        self.account = Account()
        self.exposed = list(NOTHING)
        self.adopt(plan)

    def adopt(self, plan: Limited) -> None:
        self.plan = plan
        self.limits = plan.limits
        self.unlimited = plan.limits.unlimited
        self.slotted = plan.limits.slots is not None
        self.counted = tuple(i for i, shape, _ in plan.limits.active if shape is not Shape.SLOTS)


class MemoryStore:
    """A Store without anything shared: ``reserve_now`` always answers.

    ``monotonic_s`` is the clock that ``now_s`` of the request path comes from; ``wall_s`` tells the calendar month.
    """

    def __init__(
        self, plans: Mapping[str, Plan], *, monotonic_s: Callable[[], float], wall_s: Callable[[], float]
    ) -> None:
        self.streams: Streams | None = None
        self.newer_keys = None
        self.spending: SpendBook = MemorySpendBook()
        self.keys = Ring(plans)
        self.keys.load((), os.environ.get(PEPPER_ENV, "").encode() or new_pepper())
        self._monotonic_s = monotonic_s
        self._wall_s = wall_s
        self._epoch_s = wall_s() - monotonic_s()
        self._purses: dict[str, _Purse] = {}
        self._runtime: dict[str, str] = {}
        self._notes = Notes()
        self._marks = Marks(monotonic_s)
        self._serial = itertools.count()

    def __repr__(self) -> str:
        return f"<MemoryStore {self.keys!r} {len(self._purses)} accounts>"

    @property
    def state(self) -> str:
        return "up"

    @property
    def trouble(self) -> str | None:
        return None

    @property
    def notice(self) -> str | None:
        return None

    async def start(self) -> None:
        """Nothing to connect to."""

    async def stop(self) -> None:
        """Nothing to give back."""

    def set_plans(self, plans: Mapping[str, Plan]) -> None:
        self.keys.set_plans(plans)

    def reserve_now(
        self, holder: Holder, amounts: Amounts, request_id: str, now_s: float, most: Amounts | None = None
    ) -> Reservation | Refusal:
        purse = self._purses.get(holder.id)
        if purse is None or purse.plan is not holder.plan:
            purse = self._purse(holder)
        units = cost(amounts)
        if purse.unlimited:
            return Reservation(holder.id, request_id, units, "none")
        limits, account = purse.limits, purse.account
        slot = f"{next(self._serial)}" if purse.slotted else None
        slots = (slot,) if slot is not None else ()
        now_us = self._us(now_s)
        charged, exposed = units, None
        if most is not None:
            charged, exposed = self._by_exposure(purse, units, cost(most), now_us)
        least = (most or amounts).least
        uncut = charged
        if least is not None and limits.money and exposed is None:
            advance(account, now_us, _LEASE_US)
            charged = cut(charged, cost(least), _rest(purse))
        needs = needed(charged, purse.exposed, limits) if exposed is None and any(purse.exposed) else charged
        shortfall = reserve(account, limits, now_us, needs, slots=slots, lease_us=_LEASE_US)
        if shortfall is not None:
            return refusal(limits, shortfall, account.standing(), charged)
        if needs is not charged:
            back = tuple(map(sub, needs, charged))
            settle(account, limits, now_us, back, taken_us=account.at_us, lease_us=_LEASE_US)
        if charged != uncut:
            exposed = tuple(map(sub, uncut, charged))  # until it is settled, nobody else takes what is left
        if exposed is not None:
            purse.exposed = list(map(add, purse.exposed, exposed))
        taken = Reservation(holder.id, request_id, charged, "memory", shown(limits, account.used), slot)
        taken.exposed = exposed
        return taken

    def _by_exposure(self, purse: _Purse, usual: Units, most: Units, now_us: int) -> tuple[Units, Units | None]:
        """What to take, and how much more may be used than that."""
        advance(purse.account, now_us, _LEASE_US)
        take_over(purse.account, purse.limits)
        room = list(NOTHING)
        for i, shape, limit in purse.limits.active:
            used = purse.account.used[i]
            room[i] = (remaining(used, limit) if shape is Shape.RATE else limit - used) - usual[i]
        if beyond(most, purse.limits) or may_break(usual, most, purse.exposed, room, purse.counted):
            return most, None
        return usual, tuple(map(sub, most, usual))

    async def reserve(
        self, holder: Holder, amounts: Amounts, request_id: str, most: Amounts | None = None
    ) -> Reservation | Refusal:
        return self.reserve_now(holder, amounts, request_id, self._monotonic_s(), most)

    def settle(self, reservation: Reservation, used: Amounts | None) -> None:
        if reservation.settled:
            return
        reservation.settled = True
        purse = self._purses.get(reservation.account)
        if purse is None or reservation.source == "none":
            return
        if reservation.exposed is not None:
            purse.exposed = list(map(sub, purse.exposed, reservation.exposed))
        back = reservation.cost if used is None else tuple(map(sub, reservation.cost, cost(used)))
        account, now_us = purse.account, self._us(self._monotonic_s())
        release = (reservation.slot,) if reservation.slot is not None else ()
        settle(account, purse.limits, now_us, back, taken_us=account.at_us, release=release, lease_us=_LEASE_US)

    def charge(self, holder: Holder, used: Amounts) -> None:
        purse, now_us = self._purse(holder), self._us(self._monotonic_s())
        back = tuple(map(neg, cost(used)))
        settle(purse.account, purse.limits, now_us, back, taken_us=now_us, lease_us=_LEASE_US)

    async def create_key(
        self, name: str, plan: str = "default", tenant: str | None = None, *, expires_s: float | None = None
    ) -> tuple[Key, str]:
        record, secret = new_key(name, plan, tenant, self._wall_s(), self.keys.pepper, expires_s)
        return self.keys.put(record), secret

    async def list_keys(self) -> list[Key]:
        return self.keys.all()

    async def get_key(self, key_id: str) -> Key | None:
        return self.keys.get(key_id)

    async def change_key(self, key_id: str, changes: Mapping[str, str | float | None]) -> Key | None:
        return self._change(key_id, **changes)

    async def rotate_key(self, key_id: str, overlap_s: float) -> tuple[Key, str] | None:
        if (record := self.keys.records.get(key_id)) is None:
            return None
        record, secret = rotated(record, overlap_s, self._wall_s(), self.keys.pepper)
        return self.keys.put(record), secret

    async def revoke_key(self, key_id: str) -> bool:
        return self._change(key_id, revoked=True) is not None

    def _change(self, key_id: str, **changes: Any) -> Key | None:
        record = self.keys.records.get(key_id)
        return None if record is None else self.keys.put(dataclasses.replace(record, **changes))

    async def quota(self, holder: Holder, elsewhere: Units = NOTHING) -> list[LimitState]:
        purse = self._purse(holder)
        advance(purse.account, self._us(self._monotonic_s()), _LEASE_US)
        take_over(purse.account, purse.limits)
        return limit_states(purse.limits, purse.account.standing(), _SCOPE)

    def held(self) -> dict[str, Units]:
        return {}

    async def reset_quota(self, holder: Holder, kinds: Collection[str] = NAMES) -> None:
        account = self._purse(holder).account
        for i, name in enumerate(NAMES):
            if name in kinds:
                account.used[i] = 0
                account.lowered.pop(i, None)

    async def set_runtime(self, name: str, value: str | None) -> None:
        if value is None:
            self._runtime.pop(name, None)
        else:
            self._runtime[name] = value

    async def get_runtime(self) -> dict[str, str]:
        return dict(self._runtime)

    async def claim(self, name: str, ttl_s: float) -> bool:
        now_s = self._monotonic_s()
        if self._notes.get(CLAIM, name, now_s) is not None:
            return False
        self._notes.put(CLAIM, name, "1", now_s + ttl_s)
        return True

    async def release(self, name: str) -> None:
        self._notes.drop(CLAIM, name)

    def remember(self, kind: str, digest: str, value: str, ttl_s: float) -> None:
        self._notes.put(kind, digest, value, self._monotonic_s() + ttl_s)

    async def recall(self, kind: str, digest: str) -> str | None:
        return self._notes.get(kind, digest, self._monotonic_s())

    def forget(self, kind: str, digest: str) -> None:
        self._notes.drop(kind, digest)

    def mark(self, kind: str, digest: str, ttl_s: float) -> None:
        self._marks.put(kind, digest, ttl_s)

    def any_marks(self) -> bool:
        return bool(self._marks)

    def marked(self, kind: str, digest: str) -> bool:
        return self._marks.has(kind, digest)

    async def ping(self) -> float | None:
        return 0.0

    def _us(self, now_s: float) -> int:
        return int((now_s + self._epoch_s) * MICRO)

    def _purse(self, holder: Holder) -> _Purse:
        purse = self._purses.get(holder.id)
        if purse is None:
            purse = self._purses[holder.id] = _Purse(holder.plan)
        elif purse.plan is not holder.plan:
            purse.adopt(holder.plan)
        return purse


def _rest(purse: _Purse) -> Iterator[tuple[int, int]]:
    """The rest of each sum that nothing in flight may still use."""
    for i, shape, limit in purse.limits.active:
        if shape is Shape.SUM and not purse.exposed[i]:
            yield i, limit - purse.account.used[i]
