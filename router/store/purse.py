"""What one router holds of one account's limits, taken from the shared store ahead of need and spent without asking.

The balance is signed and has a number for each kind: a reservation takes from it, a settlement puts back what was not
used, an allowance adds to it, and a surplus or a debt goes to the store with the next settlement. All of it was taken
from the account before it came here, so the sum over all routers stays within the limit, also when a router dies. What
it held is lost then: rates recover within a minute, slots when their lease is over; of a sum at most about a second's
spending stays charged.

Pure: time is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import add, gt, le, lt, neg, sub
from typing import NamedTuple

from router.config import Limited
from router.core.exposure import beyond, cut, may_break, needed
from router.core.limits import KINDS, MICRO, NOTHING, REQUESTS, SLOTS, Limits, Shape, Units
from router.core.quota import UNITS_MAX, Account, Standing, settle, under
from router.store.answers import SHOWN, remaining
from router.store.appetite import QUIET_S, SUM_PARTS, Appetite
from router.store.base import Refusal, Reservation, Shown, ShownRates
from router.store.degraded import Recalled, Share
from router.store.forgotten import Forgotten
from router.store.slots import Slots
from router.store.taken import Taken

#: A key whose store is far away holds enough for a few requests, until long after the last one, so that the next need
#: not wait for an ocean. All routers together keep no more than a part of a limit in this way.
KEPT_REQUESTS = 8
KEPT_SLOTS = 2
KEPT_S = 600.0
_KEPT_PARTS = {Shape.RATE: 4, Shape.SLOTS: 10, Shape.SUM: SUM_PARTS}
#: Requests per second from which a key is busy, and below which it no longer is.
BUSY_RATE = 2.0
IDLE_RATE = 1.0
#: A refusal is repeated for this long without asking again.
DENY_S = 0.05
#: After an allowance was refused, the next is not asked for sooner.
ASK_AGAIN_S = 0.1
#: Response headers of a busy key tell where its rates stood no longer ago than this.
TOLD_S = 0.02
#: Stands for the balance of a limit that the plan does not have: whatever is taken from it, it stays above the half.
_UNBOUNDED = 1 << 60
_HALF_UNBOUNDED = 1 << 59
#: The balance below which nothing is asked for: of a purse that is not busy, and of what has no demand.
_NEVER_LOW = -1


class Settlement(NamedTuple):
    """One message to the store. Sent again under the same number until it is acknowledged."""

    number: int
    back: Units
    taken_us: int  # a time within the periods in which it was taken
    release: tuple[str, ...]
    drop: tuple[str, ...]


class Purse:
    """``dirty``: it is about to be visited. ``name`` is what the store calls this purse among those of the account."""

    __slots__ = (
        "_counted",
        "_floored",
        "_full_s",
        "_kept_target",
        "_low",
        "_low_slots",
        "_shared",
        "_shown",
        "_target",
        "_target_slots",
        "_told",
        "_told_until_s",
        "account",
        "appetite",
        "ask_after_s",
        "asking",
        "balance",
        "busy",
        "denied",
        "denied_cost",
        "denied_until_s",
        "dirty",
        "exposed",
        "forgotten",
        "holds",
        "inflight",
        "kept",
        "limits",
        "made_us",
        "name",
        "number",
        "outgoing",
        "plan",
        "room",
        "routers",
        "sending",
        "share",
        "shared",
        "slots",
        "slotted",
        "standing",
        "standing_s",
        "taken",
        "touched_s",
        "unlimited",
    )

    def __init__(self, account: str, plan: Limited, now_s: float, new_slot: Callable[[], str], name: str = "") -> None:
        self.account = account
        self.name = name
        self.balance = list(NOTHING)
        self.slots = Slots(new_slot, now_s)
        self.taken = Taken()
        self.appetite = Appetite(now_s)
        self.inflight = 0
        self.touched_s = now_s
        self.outgoing: Settlement | None = None
        self.ask_after_s = 0.0
        self.sending = self.asking = self.dirty = False
        self.busy = self.kept = self.holds = False  # holds: busy or kept
        self.shared = False  # of a group: of requests of many keys
        self.share: Share | None = None
        self.denied: Refusal | None = None
        self.denied_cost = NOTHING
        self.denied_until_s = 0.0
        self.number = 0
        self._target = NOTHING
        self._target_slots = 0
        self._low = (_NEVER_LOW,) * len(KINDS)
        self._told = ShownRates()
        self._low_slots = 0
        self._kept_target: tuple[Units, int] = (NOTHING, 0)
        self._full_s = [now_s] * len(KINDS)
        self._shared = [_UNBOUNDED] * len(KINDS)
        self.standing: Standing | None = None
        self.forgotten = Forgotten()
        self.standing_s = now_s
        self.made_us = 0  # by the clock of the store
        self.routers = 1  # that share the limits
        self.exposed = list(NOTHING)  # what is in flight may use more than it reserved (core/exposure)
        self.room = list(NOTHING)  # for that, in the account: this router's part of half of it
        self._floored = False  # is more exposed than there is room for? Then the balance must cover it
        self.adopt(plan)

    def __repr__(self) -> str:
        held = " ".join(f"{KINDS[i].name}={self.balance[i]}" for i, _, _ in self.limits.active if i != SLOTS)
        return f"<Purse {self.account} {'busy ' if self.busy else ''}{held} {self.slots!r} inflight={self.inflight}>"

    def adopt(self, plan: Limited) -> None:
        """Go by this plan from now on."""
        limits = plan.limits
        if self.standing is not None:
            self.standing = under(self.standing, self.limits, limits)
        self.plan = plan
        self.limits: Limits = limits
        self.unlimited = limits.unlimited
        self.slotted = limits.slots is not None
        self._shown = [(i, name, limit) for i, name in SHOWN if (limit := limits[i]) is not None]
        #: The kinds that the balance counts; the others are unbounded.
        self._counted = tuple(i for i, shape, _ in limits.active if shape is not Shape.SLOTS)
        self.balance = [_rebased(units, i in self._counted) for i, units in enumerate(self.balance)]
        self._shared = [_UNBOUNDED] * len(KINDS)
        self.room = [0 if i in self._counted else _UNBOUNDED for i in range(len(KINDS))]
        self.denied_until_s = self._told_until_s = 0.0
        if self.standing is not None:
            self.note(self.standing, self.standing_s)

    # the request path

    def take(self, cost: Units, request_id: str, now_s: float) -> Reservation | None:
        """Spend from what is held. None: it does not suffice."""
        slot = None
        if self.slotted:  # Slots.ready, without a call
            slots = self.slots
            if not slots.idle or slots.held[slot := slots.idle[-1]] <= now_s:
                return None
        balance = list(map(sub, self.balance, cost))
        if min(balance) < 0 or (self._floored and any(map(lt, map(sub, balance, self.exposed), map(neg, self.room)))):
            return None
        self.balance = balance
        if slot is not None:
            slots.idle.pop()
        return self.reservation("allowance", cost, request_id, slot, now_s)

    def by_exposure(self, usual: Units, most: Units) -> tuple[Units, Units | None]:
        """What to take, and how much more may be used than that."""
        if beyond(most, self.limits) or may_break(usual, most, self.exposed, self.room, self._counted):
            return most, None
        return usual, tuple(map(sub, most, usual))

    def rest(self, guess: Units, least: Units) -> Units | None:
        """A guess that was refused, cut to what is left of the sums; None: that does not help."""
        used, exposed = self.standing.used if self.standing is not None else guess, self.exposed
        sums = ((i, limit - used[i]) for i, shape, limit in self.limits.active if shape is Shape.SUM and not exposed[i])
        found = cut(guess, least, sums) if self.standing is not None else guess
        return found if found != guess else None

    def expose(self, exposed: Units, times: int) -> None:
        """A request that was reserved by habit begins (1), or is over (-1)."""
        self.exposed = [so_far + times * units for so_far, units in zip(self.exposed, exposed, strict=True)]
        self._floored = any(map(gt, self.exposed, self.room))

    def covers(self, charged: Units) -> bool:
        """Would all that is exposed still be held, if this were taken?"""
        return all(self.balance[i] - charged[i] >= self.exposed[i] for i in self._counted)

    def cover(self, charged: Units, *, near: bool) -> Units:
        """Units to ask the store for, so that this request is served and none that is in flight can break a limit: the
        rest is kept in the balance."""
        missing = list(NOTHING)
        for i in self._counted:
            room = 0 if near else self.room[i]
            missing[i] = max(0, self.exposed[i] - room - max(0, self.balance[i]))
        return needed(charged, missing, self.limits) if any(missing) else charged

    def reservation(self, source: str, cost: Units, request_id: str, slot: str | None, now_s: float) -> Reservation:
        """Note a request that was let in."""
        self.inflight += 1
        if now_s - self.touched_s > QUIET_S:
            self.appetite.begin_anew(now_s)
        self.touched_s = now_s
        self.appetite.let_in.append(cost)
        if not self.busy or now_s >= self._told_until_s:
            self._told, self._told_until_s = self._rates_at(now_s), now_s + TOLD_S
        return Reservation(self.account, request_id, cost, source, self._told, slot)

    def _rates_at(self, now_s: float) -> ShownRates:
        shared, balance, full_s = self._shared, self.balance, self._full_s
        return ShownRates(
            [
                Shown(name, most, min(max(0, shared[i] + balance[i]), most), max(0.0, full_s[i] - now_s))
                for i, name, most in self._shown
            ]
        )

    def put_back(self, reserved: Units, used: Units, slot: str | None) -> None:
        """A request is over: take back what it reserved less what it used, and its slot."""
        self.balance = list(map(add, self.balance, map(sub, reserved, used)))
        self.denied_until_s = 0.0
        if slot is not None and slot in (slots := self.slots).held:
            slots.idle.append(slot)

    def slot(self, now_s: float) -> tuple[str | None, bool]:
        """A slot for a request that asks the store, and whether it is new to the store."""
        return self.slots.pop(now_s) if self.slotted else (None, False)

    def refused(self, refusal: Refusal, cost: Units, now_s: float) -> None:
        """Remember a refusal for a moment: a client that hammers does not reach the store every time."""
        if refusal.retry_after_s is not None:
            self.denied, self.denied_cost = refusal, cost
            self.denied_until_s = now_s + min(DENY_S, refusal.retry_after_s)

    def still_denied(self, cost: Units, now_s: float) -> Refusal | None:
        """The remembered refusal, if it holds for this cost: none of its numbers is smaller."""
        if now_s >= self.denied_until_s or any(map(lt, cost, self.denied_cost)):
            return None
        return self.denied

    def low(self, now_s: float) -> bool:
        """Is it time to ask for more?"""
        if not self.holds or self.asking or now_s < self.ask_after_s:
            return False
        return any(map(le, self.balance, self._low)) or (self.slotted and len(self.slots.idle) <= self._low_slots)

    def nearly_out(self, cost: Units) -> bool:
        """Has the account itself, as it was last seen, room for less than two such requests?"""
        return any(shared < 2 * units for shared, units in zip(self._shared, cost, strict=True))

    # what the store said

    def note(self, standing: Standing, now_s: float) -> None:
        """Take in where the account stands."""
        if self.standing is not None and self.forgotten.overtaken(self.standing, standing):
            return
        self.standing, self.standing_s = standing, now_s
        for i, shape, limit in self.limits.active:
            used = standing.used[i]
            if shape is Shape.RATE:
                self._shared[i] = remaining(used, limit)
                self.room[i] = self._shared[i] // (2 * self.routers)
                self._full_s[i] = now_s + used / MICRO
            elif shape is Shape.SUM:
                self._shared[i] = max(0, limit - used)
                self.room[i] = self._shared[i] // (2 * self.routers)
        self._floored = any(map(gt, self.exposed, self.room))

    def forget(self) -> None:
        """An operator has reset the account: it must not be put back."""
        self.standing, self.forgotten, self.denied_until_s = None, Forgotten(), 0.0

    def tell(self) -> Standing | None:
        """Where this router last saw the account, for the next command: as it stood before the store lost it, once."""
        return self.forgotten.tell(self.standing)

    def granted(self, taken: Units, slots: tuple[str, ...], now_s: float, until_s: float) -> None:
        """Add an allowance; ``slots`` are those that were offered, leased until then. After an empty one, do not ask
        again at once."""
        self.taken.answered(taken)
        if taken[REQUESTS] == 0:
            self.ask_after_s = now_s + ASK_AGAIN_S
            return
        for i in self._counted:
            self.balance[i] += taken[i]
        self.slots.leased(slots[: taken[SLOTS]], until_s)
        self.slots.idle.extend(slots[: taken[SLOTS]])

    def acknowledged(self) -> None:
        self.outgoing = None

    # what to tell the store

    def roll(self, now_s: float, trip_s: float = 0.0) -> None:
        """Measure the demand, and set by it how much to hold. An allowance takes ``trip_s`` to come."""
        if not self.appetite.measure(now_s):
            return
        requests_rate = self.appetite.requests
        self.busy = requests_rate >= (IDLE_RATE if self.busy else BUSY_RATE)
        self.kept = self.kept and now_s - self.touched_s <= KEPT_S
        if self.busy:
            target, slots = self.appetite.target(self.limits, self._shared, self.routers, trip_s)
            self._aim(target, slots, low_slots=max(int(requests_rate * trip_s), slots // 2))
        else:
            self._aim(NOTHING, 0, low_slots=0)

    def keep(self, cost: Units, routers: int, now_s: float) -> None:
        """From now on hold enough for some such requests, also while there are none."""
        requests, slots = KEPT_REQUESTS, 0
        for i, shape, limit in self.limits.active:
            left = limit if self.standing is None or shape is not Shape.SUM else limit - self.standing.used[i]
            most = left // (_KEPT_PARTS[shape] * routers)
            if shape is Shape.SLOTS:
                slots = min(KEPT_SLOTS, most)
                requests = min(requests, KEPT_REQUESTS * slots)
            elif cost[i] > 0:
                requests = min(requests, most // cost[i])
        self.kept = requests > 0
        self._kept_target = (tuple(requests * units for units in cost), slots)
        if not self.busy:
            self._aim(NOTHING, 0, low_slots=0)

    def _aim(self, target: Units, slots: int, *, low_slots: int) -> None:
        """Hold this from now on, or what is kept if that is more."""
        if self.kept:
            kept, kept_slots = self._kept_target
            target, slots = tuple(map(max, target, kept)), max(slots, kept_slots)
        self._target, self._target_slots = target, slots
        self.holds = target[REQUESTS] > 0
        self._low_slots = min(low_slots, slots - 1)
        self._low = tuple(units // 2 if units > 0 else _NEVER_LOW for units in target)

    def settlement(self, now_s: float, *, everything: bool = False) -> Settlement | None:
        """What the store should know now, if anything: surplus, debts, slots to release.

        ``everything`` gives back all that is not in use.
        """
        if self.outgoing is not None:
            return self.outgoing
        target = NOTHING if everything else self._target
        if any(self.exposed):
            target = tuple(
                units + (exposed if exposed > room else 0)
                for units, exposed, room in zip(target, self.exposed, self.room, strict=True)
            )
        back = tuple(map(_surplus, self.balance, target))
        slots = self.slots
        slots.give_up(now_s, 0 if everything else self._keep_slots())
        release, drop = slots.over()
        if not (release or drop or any(back)):
            return None
        self.balance = list(map(sub, self.balance, back))
        self.number += 1
        taken_us = self.standing.now_us if self.standing is not None else self.made_us
        self.outgoing = Settlement(self.number, back, taken_us, release, drop)
        return self.outgoing

    def _keep_slots(self) -> int:
        """Idle ones to hold on to: less than usual when others may be waiting for one."""
        if self.standing is not None and 10 * self.standing.used[SLOTS] >= 9 * (self.limits.slots or 0):
            return min(self._target_slots, self._low_slots + 1)
        return 2 * self._target_slots if self.busy else self._target_slots

    def want(self, now_s: float) -> tuple[Units, tuple[str, ...]] | None:
        """The allowance to ask for and the slots to offer, when less than half of what to hold is left."""
        if not self.low(now_s):
            return None
        want = [min(UNITS_MAX, max(0, units)) for units in map(sub, self._target, self.balance)]
        want[REQUESTS] = max(want[REQUESTS], self._target[REQUESTS] // 4, 1)
        return tuple(want), self.slots.offer(self._target_slots - len(self.slots.idle) if self.slotted else 0)

    # while the store is away

    def open_share(
        self, now_us: int, now_s: float, *, routers: int, unlimited: bool, known: Recalled | None = None
    ) -> Share:
        """The router's own part of the limits, from where the account was last seen, also before it was started."""
        used, seen_us = NOTHING, now_us
        if self.standing is not None:
            used, seen_us = self.standing.used, now_us - int((now_s - self.standing_s) * MICRO)
        elif known is not None:
            used, seen_us = known.standing.used, min(now_us, known.standing.now_us)
        account = Account.seen(seen_us, used)
        settle(account, self.limits, now_us, self._debts(), taken_us=now_us, lease_us=0)
        self.share = Share(self.limits, account, now_us, routers=routers, unlimited=unlimited, known=known)
        return self.share

    def _debts(self) -> Units:
        """Charges that the store has not heard of yet, negative as in a settlement."""
        told = NOTHING if self.outgoing is None else self.outgoing.back
        return tuple(min(0, units) + min(0, held) for units, held in zip(told, self.balance, strict=True))

    def close_share(self, now_us: int) -> None:
        """The store is back: what was given out here becomes a debt, and every slot is renewed."""
        share, self.share = self.share, None
        self.slots.renew_s = 0.0
        if share is not None:
            self.balance = list(map(sub, self.balance, share.owed(now_us)))

    def spent_out(self, now_s: float, after_s: float) -> bool:
        """Is there nothing here that anybody could miss?"""
        return (
            self.inflight == 0
            and not self.slots.held
            and not self.slots.any_over
            and self.outgoing is None
            and self.share is None
            and self.taken.quiet
            and not self.sending
            and now_s - self.touched_s > after_s
            and not any(map(_surplus, self.balance, NOTHING))
        )


def _rebased(balance: int, counted: bool) -> int:
    """The balance under a plan that has this limit or does not have it."""
    if not counted:
        return _UNBOUNDED
    return 0 if balance > _HALF_UNBOUNDED else balance


def _surplus(balance: int, target: int) -> int:
    if balance > _HALF_UNBOUNDED:
        return 0
    if balance < 0 or target == 0:
        return balance
    return balance - target if balance > 2 * target else 0
