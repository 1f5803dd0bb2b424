"""What one router holds of one key's limits, taken from the shared store ahead of need and spent without asking.

The balance is signed and is all there is: a reservation takes from it, a settlement puts back what was not used, an
allowance adds to it, and what is left over or missing goes to the store with the next settlement. All of it was taken
from the account before it came here, so the sum over all routers stays within the limit, also when a router dies. What
it held is lost then: rates heal by themselves within a minute, slots when their lease is over; of a budget at most
about a second's spending stays charged.

Pure: time is handed in, and somebody else carries the messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from router.config import Plan
from router.core.quota import UNITS_MAX, Account, Cost, Grant, Standing, month_of
from router.store.answers import limits_of, remaining
from router.store.base import Refusal, Reservation
from router.store.degraded import Share

#: Seconds of demand that a busy key holds; what is held twice over goes back.
HOLD_S = 0.5
#: Requests per second from which a key is busy, and below which it no longer is.
BUSY_RATE = 2.0
IDLE_RATE = 1.0
#: A refusal is repeated for this long without asking again.
DENY_S = 0.05
#: After an allowance was refused, the next is not asked for sooner.
ASK_AGAIN_S = 0.1
#: Demand is measured over at least this long, and smoothed.
ROLL_S = 0.1
_SMOOTHING = 0.3
#: After a pause of this length the measurement begins anew.
QUIET_S = 1.0
#: Stands for the balance of a limit that the plan does not have.
_UNBOUNDED = 1 << 60
_HALF_UNBOUNDED = 1 << 59


class Settlement(NamedTuple):
    """One message to the store. Sent again under the same number until it is acknowledged."""

    number: int
    back: Cost
    month: int
    release: tuple[str, ...]
    renew: tuple[str, ...]


class Purse:
    """``idle`` are slots held and not in use; ``held`` are all, in use or not."""

    __slots__ = (
        "_low_requests",
        "_low_tokens",
        "_microusd_rate",
        "_new_slot",
        "_number",
        "_requests_rate",
        "_rolled_s",
        "_spent_microusd",
        "_spent_requests",
        "_spent_tokens",
        "_target",
        "_target_slots",
        "_tokens_rate",
        "ask_after_s",
        "asking",
        "busy",
        "denied",
        "denied_cost",
        "denied_until_s",
        "good_until_s",
        "held",
        "idle",
        "inflight",
        "key_id",
        "limits",
        "microusd",
        "outgoing",
        "plan",
        "renew_s",
        "requests",
        "sending",
        "share",
        "shared_requests",
        "shared_tokens",
        "standing",
        "standing_s",
        "tokens",
        "touched_s",
        "unlimited",
        "whole_requests_s",
        "whole_tokens_s",
    )

    def __init__(self, key_id: str, plan: Plan, now_s: float, new_slot: Callable[[], str]) -> None:
        self.key_id = key_id
        self._new_slot = new_slot
        self.requests = self.tokens = self.microusd = 0
        self.idle: list[str] = []
        self.held: set[str] = set()
        self.good_until_s = 0.0
        self.inflight = 0
        self.touched_s = now_s
        self.renew_s = now_s
        self.outgoing: Settlement | None = None
        self.ask_after_s = 0.0
        self.sending = self.asking = self.busy = False
        self.share: Share | None = None
        self.denied: Refusal | None = None
        self.denied_cost = Cost()
        self.denied_until_s = 0.0
        self._number = 0
        self._rolled_s = now_s
        self._spent_requests = self._spent_tokens = self._spent_microusd = 0
        self._requests_rate = self._tokens_rate = self._microusd_rate = 0.0
        self._target = Cost()
        self._target_slots = 0
        self._low_requests = self._low_tokens = -1
        self.whole_requests_s = self.whole_tokens_s = now_s
        self.standing: Standing | None = None
        self.standing_s = now_s
        self.adopt(plan)

    def __repr__(self) -> str:
        return (
            f"<Purse {self.key_id} {'busy ' if self.busy else ''}requests={self.requests} tokens={self.tokens} "
            f"slots={len(self.idle)}/{len(self.held)} inflight={self.inflight}>"
        )

    def adopt(self, plan: Plan) -> None:
        """Go by this plan from now on."""
        self.plan = plan
        self.limits = limits = limits_of(plan)
        self.unlimited = limits.unlimited
        self.requests = _rebased(self.requests, limits.requests_per_minute)
        self.tokens = _rebased(self.tokens, limits.tokens_per_minute)
        self.microusd = _rebased(self.microusd, limits.budget_microusd)
        self.shared_requests = self.shared_tokens = _UNBOUNDED
        self.denied_until_s = 0.0
        if self.standing is not None:
            self.note(self.standing, self.standing_s, None)

    # the request path

    def take(self, tokens: int, microusd: int, request_id: str, now_s: float) -> Reservation | None:
        """Spend from what is held. None: it does not suffice."""
        if (
            self.requests < 1
            or self.tokens < tokens
            or self.microusd < microusd
            or now_s >= self.good_until_s
            or not (self.idle or self.limits.concurrent is None)
        ):
            return None
        self.requests -= 1
        self.tokens -= tokens
        self.microusd -= microusd
        return self.reservation(
            "allowance", tokens, microusd, request_id, self.idle.pop() if self.idle else None, now_s
        )

    def reservation(
        self, source: str, tokens: int, microusd: int, request_id: str, slot: str | None, now_s: float
    ) -> Reservation:
        """Note a request that was let in."""
        self.inflight += 1
        if now_s - self.touched_s > QUIET_S:
            self._rolled_s = now_s
        self.touched_s = now_s
        self._spent_requests += 1
        self._spent_tokens += tokens
        self._spent_microusd += microusd
        limits = self.limits
        limit_requests, limit_tokens = limits.requests_per_minute, limits.tokens_per_minute
        left_requests = left_tokens = reset_requests_s = reset_tokens_s = None
        if limit_requests is not None:
            left_requests = _within(self.shared_requests + self.requests, limit_requests)
            reset_requests_s = self.whole_requests_s - now_s if self.whole_requests_s > now_s else 0.0
        if limit_tokens is not None:
            left_tokens = _within(self.shared_tokens + self.tokens, limit_tokens)
            reset_tokens_s = self.whole_tokens_s - now_s if self.whole_tokens_s > now_s else 0.0
        return Reservation(
            self.key_id,
            request_id,
            tokens,
            source,
            limit_requests,
            left_requests,
            reset_requests_s,
            limit_tokens,
            left_tokens,
            reset_tokens_s,
            microusd,
            slot,
        )

    def put_back(self, requests: int, tokens: int, microusd: int, slot: str | None) -> None:
        """A request is over: what it did not use (or, negative, used beyond) and its slot."""
        self.requests += requests
        self.tokens += tokens
        self.microusd += microusd
        self.denied_until_s = 0.0
        if slot is not None and slot in self.held:
            self.idle.append(slot)

    def slot(self) -> tuple[str | None, bool]:
        """A slot for a request that asks the store, and whether it is new to the store."""
        if self.limits.concurrent is None:
            return None, False
        return (self.idle.pop(), False) if self.idle else (self._new_slot(), True)

    def refused(self, refusal: Refusal, cost: Cost, now_s: float) -> None:
        """Remember a refusal for a moment: a client that hammers does not reach the store every time."""
        if refusal.retry_after_s is not None:
            self.denied, self.denied_cost = refusal, cost
            self.denied_until_s = now_s + min(DENY_S, refusal.retry_after_s)

    def still_denied(self, tokens: int, microusd: int, now_s: float) -> Refusal | None:
        if now_s >= self.denied_until_s or tokens < self.denied_cost.tokens or microusd < self.denied_cost.microusd:
            return None
        return self.denied

    def low(self, now_s: float) -> bool:
        """Is it time to ask for more?"""
        if not self.busy or self.asking or now_s < self.ask_after_s:
            return False
        if self.requests <= self._low_requests or self.tokens <= self._low_tokens:
            return True
        return not self.idle and self.limits.concurrent is not None

    # what the store said

    def note(self, standing: Standing, now_s: float, good_until_s: float | None) -> None:
        """Take in where the account stands. ``good_until_s``: until when what is held may be spent."""
        self.standing, self.standing_s = standing, now_s
        if (per_minute := self.limits.requests_per_minute) is not None:
            self.shared_requests = remaining(standing.requests_us, per_minute)
            self.whole_requests_s = now_s + standing.requests_us / 1e6
        if (per_minute := self.limits.tokens_per_minute) is not None:
            self.shared_tokens = remaining(standing.tokens_us, per_minute)
            self.whole_tokens_s = now_s + standing.tokens_us / 1e6
        if good_until_s is not None:
            self.good_until_s = good_until_s

    def granted(self, grant: Grant, slots: tuple[str, ...], now_s: float) -> None:
        """Add an allowance; ``slots`` are those that were offered. After an empty one, do not ask again at once."""
        if grant.requests == 0:
            self.ask_after_s = now_s + ASK_AGAIN_S
            return
        self.requests += grant.requests if self.limits.requests_per_minute is not None else 0
        self.tokens += grant.tokens if self.limits.tokens_per_minute is not None else 0
        self.microusd += grant.microusd if self.limits.budget_microusd is not None else 0
        self.held.update(slots[: grant.slots])
        self.idle.extend(slots[: grant.slots])

    def acknowledged(self) -> None:
        self.outgoing = None

    # what to tell the store

    def roll(self, now_s: float) -> None:
        """Measure the demand, and set by it how much to hold."""
        elapsed_s = now_s - self._rolled_s
        if elapsed_s < ROLL_S:
            return
        keep = (1 - _SMOOTHING) ** (elapsed_s / ROLL_S)
        self._requests_rate = keep * self._requests_rate + (1 - keep) * self._spent_requests / elapsed_s
        self._tokens_rate = keep * self._tokens_rate + (1 - keep) * self._spent_tokens / elapsed_s
        self._microusd_rate = keep * self._microusd_rate + (1 - keep) * self._spent_microusd / elapsed_s
        self._spent_requests = self._spent_tokens = self._spent_microusd = 0
        self._rolled_s = now_s
        self.busy = self._requests_rate >= (IDLE_RATE if self.busy else BUSY_RATE)
        if not self.busy:
            self._target, self._target_slots = Cost(), 0
            self._low_requests = self._low_tokens = -1
            return
        requests = max(2, min(UNITS_MAX, int(self._requests_rate * HOLD_S)))
        per_request = requests / self._requests_rate
        self._target = Cost(
            requests,
            min(UNITS_MAX, int(self._tokens_rate * per_request)),
            min(UNITS_MAX, int(self._microusd_rate * per_request)),
        )
        self._target_slots = max(1, int(self._requests_rate * ROLL_S)) if self.limits.concurrent is not None else 0
        self._low_requests, self._low_tokens = requests // 2, self._target.tokens // 2

    def settlement(self, now_s: float, lease_s: float, *, everything: bool = False) -> Settlement | None:
        """What the store should know now, if anything: surplus, debts, slots to release and to renew.

        ``everything`` gives back all that is not in use.
        """
        if self.outgoing is not None:
            return self.outgoing
        target = Cost() if everything else self._target
        back = Cost(
            _surplus(self.requests, target.requests),
            _surplus(self.tokens, target.tokens),
            _surplus(self.microusd, target.microusd),
        )
        keep = 0 if everything else 2 * self._target_slots
        release = tuple(self.idle[keep:])
        renew: tuple[str, ...] = ()
        if release:
            del self.idle[keep:]
            self.held.difference_update(release)
        if self.held and now_s >= self.renew_s:
            renew = tuple(self.held)
            self.renew_s = now_s + lease_s / 3
        if not (release or renew or any(back)):
            return None
        self.requests -= back.requests
        self.tokens -= back.tokens
        self.microusd -= back.microusd
        self._number += 1
        month = month_of(self.standing.now_us) if self.standing is not None else 0
        self.outgoing = Settlement(self._number, back, month, release, renew)
        return self.outgoing

    def want(self, now_s: float) -> tuple[Cost, tuple[str, ...]] | None:
        """The allowance to ask for and the slots to offer, when less than half of what to hold is left."""
        if not self.low(now_s):
            return None
        limits, target = self.limits, self._target
        requests = target.requests - self.requests if limits.requests_per_minute is not None else 0
        tokens = target.tokens - self.tokens if limits.tokens_per_minute is not None else 0
        microusd = target.microusd - self.microusd if limits.budget_microusd is not None else 0
        slots = self._target_slots - len(self.idle) if limits.concurrent is not None else 0
        base = max(requests, target.requests // 4, 1)
        offered = tuple(self._new_slot() for _ in range(slots))
        return Cost(base, min(UNITS_MAX, max(0, tokens)), min(UNITS_MAX, max(0, microusd))), offered

    # while the store is away

    def open_share(self, now_us: int, now_s: float, *, routers: int, unlimited: bool) -> Share:
        """The router's own part of the limits, from where the account was last seen."""
        if self.share is None:
            account = Account(at_us=now_us, month=month_of(now_us))
            if (seen := self.standing) is not None:
                elapsed_us = int((now_s - self.standing_s) * 1e6)
                account.requests_us = max(0, seen.requests_us - elapsed_us)
                account.tokens_us = max(0, seen.tokens_us - elapsed_us)
                if month_of(seen.now_us) == account.month:
                    account.spent_microusd = seen.spent_microusd
            self.share = Share(self.limits, account, now_us, routers=routers, unlimited=unlimited)
        return self.share

    def close_share(self, now_us: int) -> None:
        """The store is back: what was given out here becomes a debt, and every slot is held anew."""
        share, self.share = self.share, None
        self.renew_s = 0.0
        if share is not None:
            owed = share.owed(now_us)
            self.requests -= owed.requests
            self.tokens -= owed.tokens
            self.microusd -= owed.microusd

    def spent_out(self, now_s: float, after_s: float) -> bool:
        """Is there nothing here that anybody could miss?"""
        return (
            self.inflight == 0
            and not self.held
            and self.outgoing is None
            and self.share is None
            and not self.asking
            and not self.sending
            and now_s - self.touched_s > after_s
            and not any(_surplus(balance, 0) for balance in (self.requests, self.tokens, self.microusd))
        )


def _rebased(balance: int, limit: int | None) -> int:
    """The balance under a plan that has this limit, or (None) does not have it."""
    if limit is None:
        return _UNBOUNDED
    return 0 if balance > _HALF_UNBOUNDED else balance


def _within(units: int, limit: int) -> int:
    return 0 if units < 0 else units if units < limit else limit


def _surplus(balance: int, target: int) -> int:
    if balance > _HALF_UNBOUNDED:
        return 0
    if balance < 0 or target == 0:
        return balance
    return balance - target if balance > 2 * target else 0
