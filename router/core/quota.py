"""The arithmetic of quotas: rates, concurrent requests and a monthly budget, taken together or not at all.

A rate is GCRA with costs of N units (redis_rate, redis-cell), kept in relative form. GCRA's theoretical arrival time is
``at_us + deficit_us``; the deficit is how long the limit needs to be whole again. A charge of n units adds
``n * 60 s / limit`` to it, time takes it away, and a charge fits while the deficit stays within one minute. So over
any time t at most ``limit + limit/60 s * t`` units are admitted, there is no window edge, and the wait until a charge
fits is exact. Relative form survives a clock that is set back: a negative step is simply no time.

Charges round up to the microsecond and refunds round down: never in the client's favour, by less than 1 us each.

The same arithmetic runs inside Redis (``store/lua``), where every number is a double. All numbers here are integers
below 2**53 as long as one charge has at most UNITS_MAX units and a limit is at most 10**11 per minute; a property test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

MINUTE_US = 60_000_000
DAY_US = 86_400_000_000
UNITS_MAX = 100_000_000
#: When to ask again for a place among the concurrent requests: nobody knows when one of them ends.
CONCURRENT_WAIT_US = 1_000_000
#: A clock that goes back by less than this is waited for, by more is believed.
STEP_BACK_US = MINUTE_US

_NEVER_US = 1 << 53


class Limits(NamedTuple):
    """What a plan allows. None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    budget_microusd: int | None = None  # per calendar month, UTC

    @property
    def unlimited(self) -> bool:
        return self == _UNLIMITED


_UNLIMITED = Limits()


class Cost(NamedTuple):
    """Units of each limit. In a settlement a positive number is given back, a negative one is charged."""

    requests: int = 0
    tokens: int = 0
    microusd: int = 0


class Verdict(NamedTuple):
    """``limit`` is None when everything was taken, else the limit with the longest wait; then nothing was taken.

    ``never`` says that the cost is above the limit itself, so that no waiting helps.
    """

    limit: str | None = None  # requests | tokens | concurrent | budget
    never: bool = False
    wait_us: int = 0


TAKEN = Verdict()


class Standing(NamedTuple):
    """Where an account stands at ``now_us``."""

    now_us: int
    requests_us: int  # deficits
    tokens_us: int
    slots: int  # in use
    spent_microusd: int  # in this month


class Grant(NamedTuple):
    """Units taken ahead of need; of the slots offered, the first ``slots`` are held."""

    requests: int = 0
    tokens: int = 0
    microusd: int = 0
    slots: int = 0


@dataclass(slots=True)
class Account:
    """The state of one key. ``slots`` are the leases of requests in progress, with the time each expires."""

    at_us: int = 0
    requests_us: int = 0
    tokens_us: int = 0
    day: int = -1  # after 1970-01-01, UTC
    month: int = 0
    spent_microusd: int = 0
    slots: dict[str, int] = field(default_factory=dict)
    soonest_us: int = _NEVER_US  # no slot expires before this
    born_us: int = 0  # what was seen before that was of an account that has been lost since
    #: What was put back: when the rates would be whole by it, and the money.
    back_requests_us: int = 0
    back_tokens_us: int = 0
    back_microusd: int = 0

    def standing(self) -> Standing:
        return Standing(self.at_us, self.requests_us, self.tokens_us, len(self.slots), self.spent_microusd)


def charge_us(units: int, per_minute: int) -> int:
    """How much deficit a charge of ``units`` adds."""
    return -(-min(units, UNITS_MAX) * MINUTE_US // per_minute) if units > 0 else 0


def refund_us(units: int, per_minute: int) -> int:
    return min(units, UNITS_MAX) * MINUTE_US // per_minute


def available(deficit_us: int, per_minute: int) -> int:
    """Units that fit now, by whole milliseconds of the minute."""
    return max(0, (MINUTE_US - deficit_us) // 1000) * per_minute // 60_000


def month_of(now_us: int) -> int:
    """Months since year 0 of the calendar month (UTC) that ``now_us`` after 1970 lies in."""
    year, month = _civil(now_us // DAY_US)
    return year * 12 + month - 1


def month_end_us(month: int) -> int:
    """When the month that ``month_of`` counts is over."""
    year, index = divmod(month + 1, 12)
    return _days(year, index + 1) * DAY_US


def advance(account: Account, now_us: int, lease_us: int) -> None:
    """Let time pass: deficits shrink, slots expire, a new month begins with nothing spent."""
    at_us = account.at_us
    if now_us < at_us:
        if at_us - now_us < STEP_BACK_US:
            now_us = at_us
        else:
            account.slots = {s: e for s, e in account.slots.items() if e <= now_us + lease_us}
            account.born_us = min(account.born_us, now_us)
    if now_us > at_us:
        elapsed_us = now_us - at_us
        account.requests_us = account.requests_us - elapsed_us if account.requests_us > elapsed_us else 0
        account.tokens_us = account.tokens_us - elapsed_us if account.tokens_us > elapsed_us else 0
    account.at_us = now_us
    if account.soonest_us <= now_us:
        account.slots = {s: e for s, e in account.slots.items() if e > now_us}
        account.soonest_us = min(account.slots.values(), default=_NEVER_US)
    if account.day != (day := now_us // DAY_US):
        if account.day < 0:
            account.born_us = now_us
        account.day = day
        if account.month != (month := month_of(now_us)):
            account.month, account.spent_microusd = month, 0


def put_back(account: Account, limits: Limits, now_us: int, seen: Standing, *, lease_us: int) -> None:
    """Somebody saw this account before it was lost and began anew: what was used then still counts.

    Several may have seen it at different times. What is put back is the most that any of them saw, and what was used
    since the account began anew comes on top. Of an account that was not lost nothing changes.
    """
    advance(account, now_us, lease_us)
    if seen.now_us >= account.born_us:
        return
    whole_us = min(seen.now_us + seen.requests_us, _NEVER_US)
    account.requests_us += max(0, whole_us - max(account.back_requests_us, account.at_us))
    account.back_requests_us = max(account.back_requests_us, whole_us)
    whole_us = min(seen.now_us + seen.tokens_us, _NEVER_US)
    account.tokens_us += max(0, whole_us - max(account.back_tokens_us, account.at_us))
    account.back_tokens_us = max(account.back_tokens_us, whole_us)
    if limits.budget_microusd is not None and month_of(seen.now_us) == account.month:
        account.spent_microusd += max(0, seen.spent_microusd - account.back_microusd)
        account.back_microusd = max(account.back_microusd, seen.spent_microusd)


def reserve(
    account: Account, limits: Limits, now_us: int, cost: Cost, *, slots: Sequence[str] = (), lease_us: int
) -> Verdict:
    """Take ``cost`` and hold ``slots`` for ``lease_us``, or take nothing and say which limit is in the way."""
    advance(account, now_us, lease_us)
    verdict = TAKEN
    requests_us = tokens_us = 0
    per_minute = limits.requests_per_minute
    if per_minute is not None:
        if cost.requests > per_minute:
            return Verdict("requests", never=True)
        requests_us = charge_us(cost.requests, per_minute)
        if cost.requests > 0 and (wait_us := account.requests_us + requests_us - MINUTE_US) > 0:
            verdict = Verdict("requests", wait_us=wait_us)
    per_minute = limits.tokens_per_minute
    if per_minute is not None:
        if cost.tokens > per_minute:
            return Verdict("tokens", never=True)
        tokens_us = charge_us(cost.tokens, per_minute)
        wait_us = account.tokens_us + tokens_us - MINUTE_US
        if cost.tokens > 0 and wait_us > verdict.wait_us:
            verdict = Verdict("tokens", wait_us=wait_us)
    if limits.concurrent is not None and slots:
        if len(slots) > limits.concurrent:
            return Verdict("concurrent", never=True)
        if len(account.slots) + len(slots) > limits.concurrent and verdict.wait_us < CONCURRENT_WAIT_US:
            verdict = Verdict("concurrent", wait_us=CONCURRENT_WAIT_US)
    if limits.budget_microusd is not None and cost.microusd > 0:
        if cost.microusd > limits.budget_microusd:
            return Verdict("budget", never=True)
        if account.spent_microusd + cost.microusd > limits.budget_microusd:
            wait_us = month_end_us(account.month) - account.at_us
            if wait_us > verdict.wait_us:
                verdict = Verdict("budget", wait_us=wait_us)
    if verdict.limit is None:
        account.requests_us += requests_us
        account.tokens_us += tokens_us
        account.spent_microusd += cost.microusd if limits.budget_microusd is not None else 0
        if limits.concurrent is not None:
            _hold(account, slots, lease_us)
    return verdict


def settle(
    account: Account,
    limits: Limits,
    now_us: int,
    back: Cost,
    *,
    month: int,
    release: Sequence[str] = (),
    renew: Sequence[str] = (),
    lease_us: int,
) -> None:
    """Give back what was reserved and not used (positive), charge what was used beyond (negative).

    ``release`` ends slots, ``renew`` holds slots for another lease, also those that were lost. Money of a ``month``
    that is over is not given back.
    """
    advance(account, now_us, lease_us)
    if limits.requests_per_minute is not None:
        account.requests_us = _signed(account.requests_us, back.requests, limits.requests_per_minute)
    if limits.tokens_per_minute is not None:
        account.tokens_us = _signed(account.tokens_us, back.tokens, limits.tokens_per_minute)
    if limits.budget_microusd is not None and (back.microusd < 0 or month == account.month):
        account.spent_microusd = max(0, account.spent_microusd - back.microusd)
    for slot in release:
        account.slots.pop(slot, None)
    if limits.concurrent is not None:
        _hold(account, renew, lease_us)


def grant(
    account: Account, limits: Limits, now_us: int, want: Cost, *, slots: Sequence[str] = (), divisor: int, lease_us: int
) -> Grant:
    """Take an allowance of up to ``want``, but no more than one ``divisor``-th of what each limit has left.

    ``want.requests`` is at least 1, no number is above UNITS_MAX. The rest is cut in the proportion in which the
    requests are, so that what is held of each limit lasts for the same number of requests.
    """
    advance(account, now_us, lease_us)
    n = want.requests
    per_minute = limits.requests_per_minute
    if per_minute is not None:
        n = _portion(n, available(account.requests_us, per_minute) // divisor, want.requests, want.requests)
    per_minute = limits.tokens_per_minute
    if per_minute is not None and want.tokens > 0:
        n = _portion(n, available(account.tokens_us, per_minute) // divisor, want.tokens, want.requests)
    if limits.concurrent is not None and slots:
        n = _portion(n, max(0, limits.concurrent - len(account.slots)) // divisor, len(slots), want.requests)
    if limits.budget_microusd is not None and want.microusd > 0:
        left = max(0, limits.budget_microusd - account.spent_microusd)
        n = _portion(n, left // divisor, want.microusd, want.requests)
    if n < 1:
        return Grant()
    taken = Grant(
        n, want.tokens * n // want.requests, want.microusd * n // want.requests, len(slots) * n // want.requests
    )
    if limits.requests_per_minute is not None:
        account.requests_us += charge_us(taken.requests, limits.requests_per_minute)
    if limits.tokens_per_minute is not None:
        account.tokens_us += charge_us(taken.tokens, limits.tokens_per_minute)
    if limits.budget_microusd is not None:
        account.spent_microusd += taken.microusd
    if limits.concurrent is not None:
        _hold(account, slots[: taken.slots], lease_us)
    return taken


def _portion(n: int, share: int, want: int, requests: int) -> int:
    """For how many of ``requests`` the ``share`` of what is left lasts, at most ``n``."""
    return n if share >= want else min(n, share * requests // want)


def _signed(deficit_us: int, back: int, per_minute: int) -> int:
    if back < 0:
        return deficit_us + charge_us(-back, per_minute)
    return max(0, deficit_us - refund_us(back, per_minute))


def _hold(account: Account, slots: Sequence[str], lease_us: int) -> None:
    if slots:
        expires_us = account.at_us + lease_us
        account.slots.update(dict.fromkeys(slots, expires_us))
        account.soonest_us = min(account.soonest_us, expires_us)


def _civil(days: int) -> tuple[int, int]:
    """Year and month of a day after 1970-01-01. Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms"."""
    shifted = days + 719_468
    era, day = divmod(shifted, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    march_based = (5 * day_of_year + 2) // 153
    month = march_based + 3 if march_based < 10 else march_based - 9
    return era * 400 + year + (month <= 2), month


def _days(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first of a month."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + day_of_year - 719_468
