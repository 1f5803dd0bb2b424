"""While the shared store is away: when it counts as away, and what a router gives out by itself meanwhile.

Pure: time is handed in.
"""

from __future__ import annotations

from router.core.quota import MINUTE_US, Account, Cost, Limits, Verdict, advance, charge_us, reserve, settle

#: This many failed pipelines in a row, and the store is away.
FAILURES = 2
PROBE_S = 0.25
PROBE_S_MAX = 2.0
#: A store that was back for less than this is probed less eagerly.
STEADY_S = 10.0
#: There are no slots in a share: the purse counts them.
_LEASE_US = 0


class Breaker:
    """Is the shared store up? Starts down; the first probe that succeeds makes it up."""

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
        """A pipeline did not. Whether this is the moment in which the store went away."""
        self.reason = reason
        self._failures += 1
        if not self.up or self._failures < FAILURES:
            return False
        steady = self._changed_s is None or now_s - self._changed_s >= STEADY_S
        self.probe_s = PROBE_S if steady else min(2 * self.probe_s, PROBE_S_MAX)
        self.up, self._changed_s = False, now_s
        return True

    def recovered(self, now_s: float) -> float | None:
        """A probe came back. Returns how long the store was away; None: it was never up before."""
        away_s = None if self._changed_s is None else now_s - self._changed_s
        self.up, self._changed_s, self._failures = True, now_s, 0
        return away_s


class Share:
    """What one router gives out of one key's limits while the store is away, and what it owes when it is back.

    ``routers`` divide the limits; the deficits continue from where the account was last seen. With ``unlimited``
    nothing is refused, only counted.
    """

    __slots__ = ("_account", "_limits", "_seen_requests_us", "_seen_tokens_us", "_spent_before", "_unlimited")

    def __init__(self, limits: Limits, account: Account, now_us: int, *, routers: int, unlimited: bool) -> None:
        divisor = 1 if unlimited else routers
        budget = limits.budget_microusd
        advance(account, now_us, _LEASE_US)
        self._limits = Limits(
            _divided(limits.requests_per_minute, divisor),
            _divided(limits.tokens_per_minute, divisor),
            None,
            None if budget is None else account.spent_microusd + max(0, budget - account.spent_microusd) // divisor,
        )
        self._account = account
        self._unlimited = unlimited
        self._seen_requests_us = now_us + account.requests_us  # when it would be whole without us
        self._seen_tokens_us = now_us + account.tokens_us
        self._spent_before = account.spent_microusd

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def account(self) -> Account:
        return self._account

    def reserve(self, cost: Cost, now_us: int) -> Verdict:
        if not self._unlimited:
            return reserve(self._account, self._limits, now_us, cost, lease_us=_LEASE_US)
        self.settle(Cost(-cost.requests, -cost.tokens, -cost.microusd), now_us)
        account = self._account
        account.requests_us = min(account.requests_us, MINUTE_US)
        account.tokens_us = min(account.tokens_us, MINUTE_US)
        return Verdict()

    def settle(self, back: Cost, now_us: int) -> None:
        settle(self._account, self._limits, now_us, back, month=self._account.month, lease_us=_LEASE_US)

    def owed(self, now_us: int) -> Cost:
        """What was given out here and still counts: units that time has already forgiven are not owed."""
        account = self._account
        advance(account, now_us, _LEASE_US)
        requests_us = account.requests_us - max(0, self._seen_requests_us - now_us)
        tokens_us = account.tokens_us - max(0, self._seen_tokens_us - now_us)
        return Cost(
            _units(requests_us, self._limits.requests_per_minute),
            _units(tokens_us, self._limits.tokens_per_minute),
            account.spent_microusd - self._spent_before,
        )


def share_of(limit: int, routers: int) -> int:
    return max(1, limit // routers)


def _divided(limit: int | None, routers: int) -> int | None:
    return None if limit is None else share_of(limit, routers)


def _units(deficit_us: int, per_minute: int | None) -> int:
    """The fewest units that make up a deficit."""
    if per_minute is None or deficit_us <= 0:
        return 0
    units = deficit_us * per_minute // MINUTE_US
    return units if charge_us(units, per_minute) >= deficit_us else units + 1
