"""The arithmetic of limits on one account: all kinds are taken together, or none.

A rate is GCRA with costs of N units (redis_rate, redis-cell), kept in relative form. GCRA's theoretical arrival time is
``at_us + deficit_us``; the deficit is how long the limit needs until it is full again. A charge of n units adds
``n * 60 s / limit`` to it, time takes it away, and a charge fits while the deficit stays within one minute. So over
any time t at most ``limit + limit/60 s * t`` units are admitted, there is no window edge, and the wait until a charge
fits is exact. Relative form survives a clock that is set back: a negative step counts as no time.

A deficit is the same share of a limit whatever the limit is. When the limit changes, the deficit is made longer or
shorter so that the units stay: what was used stays used, and the room of a raised limit is there at once. When it is
lowered, no more units count than the new limit has, so that nobody pays for minutes at the old one. Routers may have
both limits for a while, and the JWTs of one tenant may have two plans for ever: so for a minute after a lowering the
account remembers what it left out, in terms of the old limit. Whoever raises the limit then counts it again. The
routers together give out what the highest of the limits allows, and a low limit that is asked for now and then takes
nothing from a high one.

Charges round up to the microsecond and refunds round down: never in the client's favour, by less than 1 us each.

The same arithmetic runs inside Redis (``store/lua``), where every number is a double. All numbers here are integers
below 2**53 as long as one charge has at most UNITS_MAX units and a limit is at most 10**11 per minute; a property test
runs both on the same sequences.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from router.core.limits import KINDS, NAMES, NOTHING, RATES, REQUESTS, SLOTS, SUMS, Limits, Shape, Units
from router.core.periods import DAY_US, Period

MINUTE_US = 60_000_000
UNITS_MAX = 100_000_000
#: When to ask again for a slot: nobody knows when a request in progress ends.
CONCURRENT_WAIT_US = 1_000_000
#: A clock that goes back by less than this is waited for; a larger step is believed.
STEP_BACK_US = MINUTE_US

_NEVER_US = 1 << 53
_RATE = Shape.RATE
_SLOTS = Shape.SLOTS


class Shortfall(NamedTuple):
    """The limit with the longest wait, of those that refused a cost. Nothing was taken.

    ``never`` says that the cost is above the limit itself, so that waiting does not help.
    """

    limit: str  # the name of its kind
    never: bool = False
    wait_us: int = 0


class Standing(NamedTuple):
    """Where an account stands at ``now_us``: per kind the deficit in microseconds (rates), the slots in use, or what
    was spent in the current period (sums). ``born_us``: since when nothing of it has been lost."""

    now_us: int
    used: Units
    born_us: int = 0


class Lowered(NamedTuple):
    """The use that a lowered limit leaves out: ``owed_us`` at ``at_us`` in terms of ``limit``, of which ``kept_us``
    count, in terms of the lower one."""

    limit: int
    owed_us: int
    kept_us: int
    at_us: int


@dataclass(slots=True)
class Account:
    """What one scope has used. ``slots`` are the leases of requests in progress, with the time each expires."""

    at_us: int = 0
    #: Per kind as in Standing; the entry of the slots is not used.
    used: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    periods: list[int] = field(default_factory=lambda: [0] * len(KINDS))  # of each sum: the period it belongs to
    day: int = -1  # after 1970-01-01, UTC
    slots: dict[str, int] = field(default_factory=dict)
    soonest_us: int = _NEVER_US  # no slot expires before this
    born_us: int = 0  # what was seen before this time was of an account that has been lost since
    #: What was put back: per rate when it would be full by it, per sum how much, and how many slots.
    back: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    unknown: int = 0  # slots that were put back and have not been renewed yet by those who hold them
    #: The limits in whose terms the deficits are; of each rate as one was last set, 0: never.
    limits: Limits | None = None
    per_minute: list[int] = field(default_factory=lambda: [0] * len(KINDS))
    lowered: dict[int, Lowered] = field(default_factory=dict)  # rates

    @classmethod
    def seen(cls, now_us: int, used: Sequence[int]) -> Account:
        """An account that has used this much at ``now_us``."""
        account = cls()
        advance(account, now_us, 0)
        account.used = list(used)
        return account

    def forget_limits(self) -> None:
        """The deficits hold as they are for whatever limits come next."""
        self.limits, self.per_minute = None, [0] * len(KINDS)
        self.lowered.clear()

    @property
    def slots_used(self) -> int:
        return len(self.slots) + self.unknown

    def standing(self) -> Standing:
        used = self.used.copy()
        used[SLOTS] = self.slots_used
        return Standing(self.at_us, tuple(used), self.born_us)


def charge_us(units: int, per_minute: int) -> int:
    """How much deficit a charge of ``units`` adds."""
    return -(-min(units, UNITS_MAX) * MINUTE_US // per_minute) if units > 0 else 0


def refund_us(units: int, per_minute: int) -> int:
    """How much deficit a refund of ``units`` removes."""
    return min(units, UNITS_MAX) * MINUTE_US // per_minute


def available(deficit_us: int, per_minute: int) -> int:
    """Units that fit now, by whole milliseconds of the minute."""
    return max(0, (MINUTE_US - deficit_us) // 1000) * per_minute // 60_000


def advance(account: Account, now_us: int, lease_us: int) -> None:
    """Let time pass: deficits shrink, slots expire, the sums of a new period begin at nothing."""
    at_us = account.at_us
    if now_us < at_us:
        if at_us - now_us < STEP_BACK_US:
            now_us = at_us
        else:
            account.slots = {s: e for s, e in account.slots.items() if e <= now_us + lease_us}
            account.born_us = min(account.born_us, now_us)
    if now_us > at_us:
        elapsed_us, used = now_us - at_us, account.used
        for i in RATES:
            deficit_us = used[i]
            if deficit_us:
                used[i] = deficit_us - elapsed_us if deficit_us > elapsed_us else 0
    account.at_us = now_us
    if account.soonest_us <= now_us:
        account.slots = {s: e for s, e in account.slots.items() if e > now_us}
        account.soonest_us = min(account.slots.values(), default=_NEVER_US)
    if account.unknown and now_us >= account.born_us + lease_us // 2:
        account.unknown = 0  # those who live have renewed theirs
    if account.day != (day := now_us // DAY_US):
        if account.day < 0:
            account.born_us = now_us
        account.day = day
        for i, period in SUMS:
            if account.periods[i] != (number := period.number(now_us)):
                account.periods[i], account.used[i] = number, 0


def take_over(account: Account, limits: Limits) -> None:
    """Express the deficits in terms of these limits, which may be others than before."""
    account.limits = limits
    per_minute, used = account.per_minute, account.used
    for i, shape, limit in limits.active:
        before = per_minute[i]
        if shape is not _RATE or before == limit:
            continue
        per_minute[i] = limit
        if not before:
            continue
        high, owed_us = before, used[i]
        past = account.lowered.pop(i, None)
        if past is not None and 0 <= (passed_us := account.at_us - past.at_us) < MINUTE_US:
            high = past.limit
            since_us = used[i] - max(0, past.kept_us - passed_us)  # charged since then, or given back
            owed_us = max(0, past.owed_us - passed_us) + _rescaled(since_us, before, high)
            owed_us = min(max(0, owed_us), _NEVER_US)
        same_us = _rescaled(owed_us, high, limit)
        used[i] = min(same_us, max(used[i], MINUTE_US))
        if used[i] < same_us:
            account.lowered[i] = Lowered(high, owed_us, used[i], account.at_us)


def _rescaled(deficit_us: int, before: int, limit: int) -> int:
    """The deficit of as many units under another limit."""
    return math.ceil(float(deficit_us) * before / limit)  # in doubles, as Lua has them


def under(standing: Standing, before: Limits, limits: Limits) -> Standing:
    """A standing that was seen under other limits."""
    account = Account.seen(standing.now_us, standing.used)
    take_over(account, before)
    take_over(account, limits)
    return standing._replace(used=tuple(account.used))


def put_back(account: Account, limits: Limits, now_us: int, seen: Standing, *, lease_us: int) -> None:
    """Restore what somebody saw used before this account was lost and began at nothing, or at an earlier state: a
    replica that is promoted may not have heard the last.

    Several may have seen it at different times. What is put back is the most that any of them saw, and what was used
    since the loss comes on top. An account that was not lost does not change.
    """
    seen_us = seen.now_us
    went_back = account.day >= 0 and account.at_us < seen_us
    advance(account, now_us, lease_us)
    if account.limits is not limits:
        take_over(account, limits)
    if went_back:
        account.born_us = account.at_us
        seen_us = min(seen_us, account.at_us - 1)
        account.back = [account.at_us + u if k.shape is _RATE else u for k, u in zip(KINDS, account.used, strict=True)]
        account.back[SLOTS] = account.slots_used
    if seen_us >= account.born_us:
        return
    used, back = account.used, account.back
    for i in RATES:
        full_us = min(seen_us + seen.used[i], _NEVER_US)
        used[i] += max(0, full_us - max(back[i], account.at_us))
        back[i] = max(back[i], full_us)
    for i, period in SUMS:
        if limits[i] is not None and period.number(seen_us) == account.periods[i]:
            used[i] += max(0, seen.used[i] - back[i])
            back[i] = max(back[i], seen.used[i])
    if limits.slots is not None and account.at_us < account.born_us + lease_us // 2:
        account.unknown += max(0, seen.used[SLOTS] - back[SLOTS])
        back[SLOTS] = max(back[SLOTS], seen.used[SLOTS])


def reserve(
    account: Account, limits: Limits, now_us: int, cost: Units, *, slots: Sequence[str] = (), lease_us: int
) -> Shortfall | None:
    """Take ``cost`` and hold ``slots`` for ``lease_us``; or take nothing and say which limit is in the way.

    The number of slots counts, not the cost's entry for them.
    """
    advance(account, now_us, lease_us)
    if account.limits is not limits:
        take_over(account, limits)
    used = account.used.copy()
    refusing, longest_us = -1, 0
    for i, shape, limit in limits.active:
        units = cost[i]
        if shape is _SLOTS:
            units = len(slots)
        if not units:
            continue
        if units > limit:
            return Shortfall(NAMES[i], never=True)
        if shape is _RATE:
            used[i] -= -min(units, UNITS_MAX) * MINUTE_US // limit
            wait_us = used[i] - MINUTE_US
        elif shape is _SLOTS:
            wait_us = CONCURRENT_WAIT_US if account.slots_used + units > limit else 0
        else:
            used[i] += units
            wait_us = _period(i).end_us(account.periods[i]) - account.at_us if used[i] > limit else 0
        if wait_us > longest_us:
            refusing, longest_us = i, wait_us
    if refusing >= 0:
        return Shortfall(NAMES[refusing], wait_us=longest_us)
    account.used = used
    if slots and limits.slots is not None:
        _hold(account, slots, lease_us)
    return None


def settle(
    account: Account,
    limits: Limits,
    now_us: int,
    back: Units,
    *,
    taken_us: int,
    release: Sequence[str] = (),
    drop: Sequence[str] = (),
    renew: Sequence[str] = (),
    lease_us: int,
) -> None:
    """Give back what was reserved and not used (positive), charge what was used beyond (negative).

    ``release`` ends slots, ``drop`` those that may never have been held, ``renew`` holds slots for another lease, also
    those that were lost. A sum is given back only within the period in which it was taken: ``taken_us`` lies in that.
    """
    advance(account, now_us, lease_us)
    if account.limits is not limits:
        take_over(account, limits)
    used = account.used
    for i, shape, limit in limits.active:
        units = back[i]
        if not units or shape is _SLOTS:
            continue
        if shape is _RATE:
            used[i] = max(0, used[i] - refund_us(units, limit)) if units > 0 else used[i] + charge_us(-units, limit)
        elif units < 0 or _same_period(account, i, taken_us):
            used[i] = max(0, used[i] - units)
    for slot in release:
        if account.slots.pop(slot, None) is None:
            account.unknown = max(0, account.unknown - 1)
    for slot in drop:
        account.slots.pop(slot, None)
    if renew and limits.slots is not None:
        found = sum(slot not in account.slots for slot in renew)
        account.unknown = max(0, account.unknown - found)
        _hold(account, renew, lease_us)


def grant(
    account: Account,
    limits: Limits,
    now_us: int,
    want: Units,
    *,
    slots: Sequence[str] = (),
    divisor: int,
    lease_us: int,
) -> Units:
    """Take an allowance of up to ``want``, but no more than one ``divisor``-th of what each limit has left.

    ``want`` has at least 1 request, no number is above UNITS_MAX. The rest is cut in the proportion in which the
    requests are, so that what is held of each limit lasts for the same number of requests. Of the slots offered, the
    first are held, as many as the answer says.
    """
    advance(account, now_us, lease_us)
    if account.limits is not limits:
        take_over(account, limits)
    used = account.used
    want = (*want[:SLOTS], len(slots), *want[SLOTS + 1 :])
    n = requests = want[REQUESTS]
    for i, shape, limit in limits.active:
        if want[i] > 0:
            if shape is _RATE:
                left = available(used[i], limit)
            else:
                left = max(0, limit - (account.slots_used if shape is _SLOTS else used[i]))
            share = left // divisor
            if share < want[i]:
                n = min(n, share * requests // want[i])
    if n < 1:
        return NOTHING
    taken = tuple(units * n // requests for units in want)
    for i, shape, limit in limits.active:
        if shape is _RATE:
            used[i] += charge_us(taken[i], limit)
        elif shape is _SLOTS:
            _hold(account, slots[: taken[i]], lease_us)
        else:
            used[i] += taken[i]
    return taken


def _period(index: int) -> Period:
    period = KINDS[index].period
    assert period is not None
    return period


def _same_period(account: Account, index: int, then_us: int) -> bool:
    return then_us // DAY_US == account.day or _period(index).number(then_us) == account.periods[index]


def _hold(account: Account, slots: Sequence[str], lease_us: int) -> None:
    if slots:
        expires_us = account.at_us + lease_us
        account.slots.update(dict.fromkeys(slots, expires_us))
        account.soonest_us = min(account.soonest_us, expires_us)
