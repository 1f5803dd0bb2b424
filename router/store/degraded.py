"""When the shared store counts as away, and what a router may give out alone until it is back.

Pure: time is handed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import neg
from typing import NamedTuple

from router.core.exposure import cut
from router.core.limits import KINDS, NAMES, NOTHING, RATES, SUMS, Limits, Shape, Units
from router.core.quota import (
    CONCURRENT_WAIT_US,
    MINUTE_US,
    Account,
    Shortfall,
    Standing,
    advance,
    charge_us,
    reserve,
    settle,
)
from router.core.tokens import GUESS_DIVISOR

#: The store counts as away after this many failed pipelines in a row.
FAILURES = 2
PROBE_S = 0.25
PROBE_S_MAX = 2.0
#: If the store was back for a shorter time than this, it is probed less often.
STEADY_S = 10.0
#: While the store is up and only late, a router gives out no more than this part of its share, or of its slots; less
#: when it is itself too busy to read in time.
CREDIT = 8
CREDIT_BUSY = 16
#: Time pays back no excess of a sum: a request on credit may cost no more than this part of the rest.
CREDIT_SUM = 500
#: A share has no slots: the purse counts them.
_LEASE_US = 0


class Breaker:
    """Knows whether the shared store is up. Starts down; the first successful probe makes it up."""

    __slots__ = ("_changed_s", "_failures", "probe_s", "reason", "up")

    def __init__(self) -> None:
        self.up = False
        self.reason = "not connected yet"
        self.probe_s = PROBE_S  # until the next probe
        self._failures = 0
        self._changed_s: float | None = None

    def __repr__(self) -> str:
        return f"<Breaker {'up' if self.up else f'down: {self.reason}'}>"

    def succeeded(self) -> None:
        """A pipeline came back."""
        self._failures = 0

    def failed(self, reason: str, now_s: float) -> bool:
        """A pipeline failed. True: with this one the store counts as away."""
        self.reason = reason
        self._failures += 1
        if not self.up or self._failures < FAILURES:
            return False
        steady = self._changed_s is None or now_s - self._changed_s >= STEADY_S
        self.probe_s = PROBE_S if steady else min(2 * self.probe_s, PROBE_S_MAX)
        self.up, self._changed_s = False, now_s
        return True

    def recovered(self, now_s: float) -> float | None:
        """A probe succeeded. Returns how long the store was away; None: it was never up before."""
        away_s = None if self._changed_s is None else now_s - self._changed_s
        self.up, self._changed_s, self._failures = True, now_s, 0
        return away_s


class Recalled(NamedTuple):
    """Where an account stood, and up to where a share of each sum goes that was claimed of it; None: none was."""

    standing: Standing
    ends: Units | None = None


class Share:
    """One router's share of an account's limits while the store is away, and its debt afterwards.

    ``routers`` divide the limits; the account continues from where it was last seen. With ``unlimited`` nothing is
    refused, only counted. ``known``: this router was started again, and goes on with the share that it had before.
    ``claimed``: what is in the file as used (``store/quota_file``), whether it is or not.
    """

    __slots__ = (
        "_account",
        "_before",
        "_limits",
        "_opened_us",
        "_periods",
        "_routers",
        "_unlimited",
        "claimed",
        "slots",
    )

    def __init__(
        self,
        limits: Limits,
        account: Account,
        now_us: int,
        *,
        routers: int,
        unlimited: bool,
        known: Recalled | None = None,
    ) -> None:
        advance(account, now_us, _LEASE_US)
        account.forget_limits()  # of a share as much is used as of the whole
        self._limits = _divided(limits, account.used, 1 if unlimited else routers)
        self._periods = tuple(account.periods)
        self.claimed: Standing | None = None
        if known is not None:
            self.claimed = known.standing
            if known.ends is not None and not unlimited:
                self._go_on(known.standing.now_us, known.ends)
        self._account = account
        self._unlimited = unlimited
        self._routers = routers
        self._opened_us = now_us
        self._before = tuple(account.used)
        self.slots = 0  # that the store has not heard of

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def account(self) -> Account:
        return self._account

    def _go_on(self, then_us: int, ends: Units) -> None:
        """Of a sum, no more than the share that was divided before."""
        for i, period in SUMS:
            if self._limits[i] is not None and period.number(then_us) == self._periods[i]:
                self._limits = self._limits.replaced(i, ends[i])

    def reserve(self, cost: Units, now_us: int) -> Shortfall | None:
        if not self._unlimited:
            return reserve(self._account, self._limits, now_us, cost, lease_us=_LEASE_US)
        self.settle(tuple(map(neg, cost)), now_us)
        used = self._account.used
        for i in RATES:
            used[i] = min(used[i], MINUTE_US)
        return None

    def fitting(self, guess: Units, least: Units, now_us: int) -> Units:
        """A guess that may be right for the whole limit, cut for this part of it."""
        if self._unlimited:
            return guess
        advance(self._account, now_us, _LEASE_US)
        used = self._account.used
        rates = ((i, limit // GUESS_DIVISOR) for i, shape, limit in self._limits.active if shape is Shape.RATE)
        sums = ((i, limit - used[i]) for i, shape, limit in self._limits.active if shape is Shape.SUM)
        return cut(guess, least, (*rates, *sums))

    def known(self) -> Recalled:
        """The state of this share, without its claims."""
        ends = tuple(limit or 0 for limit in self._limits.limits)
        return Recalled(self._account.standing(), None if self._unlimited else ends)

    def claim(self, cost: Units, now_us: int) -> Recalled | None:
        """The claim that is needed before this is given out: with half of the rest, so that it is seldom. None: enough
        is claimed, or there is not room for this anyway."""
        if self._unlimited:
            return None
        advance(self._account, now_us, _LEASE_US)
        used, wanted, missing = self._account.used, self._account.used.copy(), False
        for i, shape, limit in self._limits.active:
            most = MINUTE_US if shape is Shape.RATE else limit
            need = used[i] + (charge_us(cost[i], limit) if shape is Shape.RATE else cost[i])
            if cost[i] and need > most:
                return None
            have = self._has_claimed(i)
            missing = missing or need > have
            wanted[i] = max(have, need, (used[i] + most) // 2)
        return self.known()._replace(standing=Standing(self._account.at_us, tuple(wanted))) if missing else None

    def _has_claimed(self, i: int) -> int:
        if self.claimed is None:
            return -1
        then_us, period = self.claimed.now_us, KINDS[i].period
        if period is None:
            return max(0, self.claimed.used[i] - max(0, self._account.at_us - then_us))
        return self.claimed.used[i] if period.number(then_us) == self._account.periods[i] else 0

    def settle(self, back: Units, now_us: int) -> None:
        settle(self._account, self._limits, now_us, back, taken_us=self._account.at_us, lease_us=_LEASE_US)

    def near(self) -> Shortfall | None:
        """A limit of which more than half was used when the account was last seen: nothing of it is given on credit."""
        for i, shape, limit in self._limits.active:
            if self._before[i] > (MINUTE_US if shape is Shape.RATE else limit) // 2:
                return Shortfall(NAMES[i], wait_us=CONCURRENT_WAIT_US)
        return None

    def affords(self, cost: Units, now_us: int, parts: int, *, seen: bool) -> bool:
        """With this, is no more than one part in ``parts`` of the share given out, or nothing but this?"""
        owed = self.owed(now_us)
        for i, shape, limit in self._limits.active:
            part = limit if shape is Shape.RATE else limit - self._before[i]
            if shape is Shape.SUM and cost[i] and (not seen or cost[i] * CREDIT_SUM > part * self._routers):
                return False
            if cost[i] and owed[i] and owed[i] + cost[i] > part // parts:
                return False
        return True

    def owed(self, now_us: int) -> Units:
        """Units that were given out here and still count: time has not given them back."""
        advance(self._account, now_us, _LEASE_US)
        owed = list(NOTHING)
        for i, shape, limit in self._limits.active:
            used, before = self._account.used[i], self._before[i]
            if shape is Shape.RATE:
                owed[i] = _units(used - max(0, self._opened_us + before - now_us), limit)
            elif self._account.periods[i] == self._periods[i]:
                owed[i] = used - before
            else:  # what was used before belongs to a period that is over
                owed[i] = used
        return tuple(owed)


def _divided(limits: Limits, used: Sequence[int], routers: int) -> Limits:
    """One router's part: a share of the limit of a rate, a share of the rest of a sum. The purse counts the slots."""
    part: list[int | None] = [None] * len(NOTHING)
    for i, shape, limit in limits.active:
        if shape is Shape.RATE:
            part[i] = share_of(limit, routers)
        elif shape is Shape.SUM:
            part[i] = used[i] + max(0, limit - used[i]) // routers
    return Limits(*part)


def share_of(limit: int, routers: int) -> int:
    return max(1, limit // routers)


def _units(deficit_us: int, per_minute: int) -> int:
    """The smallest number of units that causes this deficit."""
    if deficit_us <= 0:
        return 0
    units = deficit_us * per_minute // MINUTE_US
    return units if charge_us(units, per_minute) >= deficit_us else units + 1
