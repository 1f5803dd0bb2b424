"""Decisions of a router without its store, which is away, or up and slow to answer: by ``on_down``, as a debt."""

from __future__ import annotations

from typing import Protocol

from router.core.exposure import beyond
from router.core.limits import NAMES, SLOTS, Units
from router.core.quota import CONCURRENT_WAIT_US, Shortfall
from router.store.answers import refusal, shown, with_slots
from router.store.base import Refusal, Reservation, Shown, ShownRates
from router.store.degraded import CREDIT, CREDIT_BUSY, Share, share_of
from router.store.purse import Purse
from router.store.quota_file import QuotaFile
from router.words import plural

RETRY_S = 1.0


class Sharers(Protocol):
    """The routers that share the limits, and the store's clock."""

    routers: int

    @property
    def ever_up(self) -> bool:
        """Was the store ever reached since the start?"""

    def server_us(self, now_s: float) -> int: ...


class Alone:
    def __init__(self, on_down: str, sharers: Sharers, file: QuotaFile, *, lease_s: float) -> None:
        self._on_down = on_down
        self._file = file
        self._lease_s = lease_s
        self._sharers = sharers

    def __repr__(self) -> str:
        return f"<Alone {self._on_down}>"

    @property
    def unlimited(self) -> bool:
        return self._on_down == "allow"

    def share(self, purse: Purse, now_s: float) -> Share:
        if purse.share is not None:
            return purse.share
        now_us, routers = self._sharers.server_us(now_s), self._sharers.routers
        known = None if self._sharers.ever_up else self._file.recall(purse.account, now_us)
        return purse.open_share(now_us, now_s, routers=routers, unlimited=self.unlimited, known=known)

    def must_claim(self, purse: Purse, units: Units, now_s: float, least: Units | None) -> bool:
        """Before this is given out, it has to be written down."""
        if self._file.path is None or self._on_down != "share":
            return False
        now_us, share = self._sharers.server_us(now_s), self.share(purse, now_s)
        return share.claim(units if least is None else share.fitting(units, least, now_us), now_us) is not None

    async def decide_soon(
        self, purse: Purse, units: Units, request_id: str, now_s: float, least: Units | None
    ) -> Reservation | Refusal:
        """Like ``decide``, once it is written down."""
        if self._on_down == "share":
            now_us, share = self._sharers.server_us(now_s), self.share(purse, now_s)
            cost = units if least is None else share.fitting(units, least, now_us)
            await self._file.cover(purse.account, share, cost, now_us)
        return self.decide(purse, units, request_id, now_s, least)

    def decide(
        self, purse: Purse, units: Units, request_id: str, now_s: float, least: Units | None = None
    ) -> Reservation | Refusal:
        """The store is away. ``least``: that much is certain, the rest of ``units`` a guess."""
        if self._on_down == "deny":
            return Refusal("store", "Quotas cannot be checked: the shared store is away.", RETRY_S)
        now_us, share = self._sharers.server_us(now_s), self.share(purse, now_s)
        if least is not None:
            units = share.fitting(units, least, now_us)
        slot, new = purse.slot(now_s)
        if slot is not None and new:
            held = len(purse.slots.held)
            if held >= (places := self._places(purse, now_s)) and self._on_down != "allow":
                standing = with_slots(share.account.standing(), held)
                limits = share.limits.replaced(SLOTS, places)
                return refusal(limits, Shortfall(NAMES[SLOTS], wait_us=CONCURRENT_WAIT_US), standing, units)
            purse.slots.leased((slot,), 0.0)
        shortfall = share.reserve(units, now_us)
        if shortfall is not None:
            if slot is not None:
                purse.slots.back(slot)
            answer = refusal(share.limits, shortfall, share.account.standing(), units)
            if shortfall.never and not beyond(units, purse.limits):  # above the share, not above the limit
                answer.retry_after_s = RETRY_S
            answer.detail += f" (The shared store is away: shared by {plural(self._sharers.routers, 'router')}.)"
            return answer
        taken = purse.reservation(self._on_down, units, request_id, slot, now_s)
        parts = zip(taken.shown, shown(share.limits, share.account.used), strict=True)
        taken.shown = ShownRates([Shown(rate.limit, rate.most, part.remaining, rate.reset_s) for rate, part in parts])
        return taken

    def late(
        self, purse: Purse, units: Units, request_id: str, now_s: float, least: Units | None = None, *, busy: bool
    ) -> Reservation | Refusal:
        """The store is up and has not answered in time. That gives nobody a share: an account far from its limits gets
        a little on credit, as a debt, and one near them nothing. ``busy``: it may be this router that is too slow."""
        if self._on_down != "share":
            return self.decide(purse, units, request_id, now_s, least)
        share, slots = self.share(purse, now_s), purse.limits.slots
        if (shortfall := share.near()) is not None:
            answer = refusal(share.limits, shortfall, share.account.standing(), units)
            answer.detail += " (The shared store is slow to answer.)"
            return answer
        parts = CREDIT_BUSY if busy or purse.standing is None else CREDIT
        afforded = share.affords(units, self._sharers.server_us(now_s), parts, seen=purse.standing is not None)
        if afforded and slots is not None:
            used = 0 if purse.standing is None else purse.standing.used[SLOTS]
            most = slots // (2 * parts * self._sharers.routers)
            afforded = 4 * used <= slots and purse.slots.unknown < most
        if not afforded:
            return Refusal("store", "Quotas cannot be checked: the shared store is slow to answer.", RETRY_S)
        return self.decide(purse, units, request_id, now_s, least)

    def _places(self, purse: Purse, now_s: float) -> int:
        """How many requests may be in progress here. Until the leases are over of those that others had when the
        account was last seen, its share of the places that were free then; after that, of all."""
        limit, routers = purse.limits.slots or 1, self._sharers.routers
        places = share_of(limit, routers)
        if purse.standing is None or now_s - purse.standing_s >= self._lease_s:
            return places
        known = len(purse.slots.held) - purse.slots.unknown
        return min(places, known + max(0, limit - purse.standing.used[SLOTS]) // routers)
