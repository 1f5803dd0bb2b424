"""Requests that wait for a place: bounded, in a fair order, none for ever.

Order: priority first, then the tenant that was served least, then who came first. A request that has waited long for
its priority counts as interactive, so that nobody starves. Tenants share the queue: once it is half full, one tenant
may not hold more than an equal part of it.

Only heads are compared: requests of one tenant, one priority and one kind (see ``course.WaitKind``) stand in one line,
because a place that does not fit the first of them fits none.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Generic, TypeVar

from router.core.decay import Rate
from router.core.params import Params
from router.core.types import Priority, Request

T = TypeVar("T", bound=Hashable)

_Line = tuple[Hashable, Priority, str]


class _Waiter(Generic[T]):
    __slots__ = ("line", "request", "seq", "since_s", "token", "until_s")

    def __init__(self, request: Request, token: T, kind: Hashable, since_s: float, until_s: float, seq: int) -> None:
        self.request = request
        self.token: T | None = token  # None: it has left
        self.since_s = since_s
        self.until_s = until_s
        self.seq = seq
        self.line: _Line = (kind, request.priority, request.tenant)

    def __lt__(self, other: _Waiter[T]) -> bool:
        return (self.until_s, self.seq) < (other.until_s, other.seq)


class WaitQueue(Generic[T]):
    """``token`` is whatever wakes the request up again, e.g. a future; it must be hashable and unique."""

    def __init__(self, params: Params) -> None:
        self._max = params.queue_max
        self._wait_max_s = params.wait_max_s
        #: requests that were given a place
        self._served = Rate(params.queue_memory_s)
        self._promote_s = {
            Priority.INTERACTIVE: 0.0,
            Priority.STANDARD: params.promote_standard_s,
            Priority.BATCH: params.promote_batch_s,
        }
        self._lines: dict[_Line, deque[_Waiter[T]]] = {}
        self._waiters: dict[T, _Waiter[T]] = {}
        self._deadlines: list[_Waiter[T]] = []
        self._seq = 0
        #: how many turns a tenant has had, counted from the turn the queue has reached
        self._turns: dict[str, int] = {}
        self._turn = 0
        #: waiting requests
        self.by_tenant: Counter[str] = Counter()
        self.by_priority: Counter[Priority] = Counter()
        self.by_model: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._waiters)

    def __repr__(self) -> str:
        return f"<WaitQueue {len(self)} of {self._max}, {len(self.by_tenant)} tenants>"

    def push(self, request: Request, now_s: float, token: T, *, kind: Hashable = None, until_s: float = inf) -> bool:
        """Let ``request`` wait until ``until_s``, its deadline or the longest wait allowed. False: no room for it.

        ``kind`` is equal for requests that the same places fit.

        Raises ``ValueError`` when ``token`` waits already.
        """
        if token in self._waiters:
            raise ValueError(f"{token!r} waits already")
        tenant = request.tenant
        waiting = len(self._waiters)
        if waiting >= self._max:
            return False
        tenants = len(self.by_tenant) + (tenant not in self.by_tenant)
        if waiting >= self._max / 2 and self.by_tenant[tenant] >= self._max / tenants:
            return False
        until_s = min(until_s, request.deadline_s, now_s + self._wait_max_s)
        self._seq += 1
        waiter = _Waiter(request, token, kind, now_s, until_s, self._seq)
        self._waiters[token] = waiter
        self._lines.setdefault(waiter.line, deque()).append(waiter)
        heappush(self._deadlines, waiter)
        if tenant not in self.by_tenant:
            self._turns[tenant] = self._turn
        self.by_tenant[tenant] += 1
        self.by_priority[request.priority] += 1
        self.by_model[request.model] += 1
        return True

    def pop(self, now_s: float, fits: Callable[[T], bool] = lambda _: True) -> T | None:
        """The token of the next request that ``fits`` the place that became free, None if nobody does.

        ``fits`` is asked once per kind of request and priority, with the token of the oldest of those: who has waited
        longest takes what others would not, see ``Fleet._hold``. A younger one is asked when it is its turn.
        """
        oldest: dict[tuple[Hashable, Priority], _Waiter[T]] = {}
        for (kind, priority, _), waiters in self._lines.items():
            head = waiters[0]
            known = oldest.setdefault((kind, priority), head)
            if head.request.arrival_s < known.request.arrival_s:
                oldest[kind, priority] = head
        fitting = {key for key, head in oldest.items() if head.token is not None and fits(head.token)}
        ranked: list[tuple[int, int, int, _Waiter[T]]] = []
        for (kind, priority, tenant), waiters in self._lines.items():
            if (kind, priority) not in fitting:
                continue
            head = waiters[0]
            promoted = now_s - head.since_s >= self._promote_s[priority]
            rank = Priority.INTERACTIVE if promoted else priority
            ranked.append((rank, self._turns[tenant], head.seq, head))
        chosen = self._first_that(fits, ranked, oldest)
        if chosen is None:
            return None
        tenant = chosen.request.tenant
        self._turn = max(self._turn, self._turns[tenant])
        self._turns[tenant] += 1
        token = chosen.token
        self._leave(chosen)
        self._served.add(1.0, now_s)
        return token

    def _first_that(
        self,
        fits: Callable[[T], bool],
        ranked: list[tuple[int, int, int, _Waiter[T]]],
        oldest: dict[tuple[Hashable, Priority], _Waiter[T]],
    ) -> _Waiter[T] | None:
        """The first by rank that fits. The oldest of each kind were asked already."""
        heapify(ranked)
        while ranked:
            head = heappop(ranked)[3]
            kind, priority, _ = head.line
            if oldest[kind, priority] is head or (head.token is not None and fits(head.token)):
                return head
        return None

    def expected_wait_s(self, now_s: float) -> float:
        """How long one who came now would wait, at the pace at which the queue has been served lately: a second at
        least, and at most as long as anybody may wait."""
        served_per_s = self._served.value(now_s)
        wait_s = (len(self) + 1) / served_per_s if served_per_s > 0.0 else inf
        return min(max(1.0, wait_s), self._wait_max_s)

    def remove(self, token: T) -> bool:
        """The client has left. False: it was not waiting any more."""
        waiter = self._waiters.get(token)
        if waiter is None:
            return False
        self._leave(waiter)
        return True

    def expire(self, now_s: float) -> list[T]:
        """The tokens whose time is up; they wait no longer."""
        expired: list[T] = []
        while self._deadlines and (self._deadlines[0].token is None or self._deadlines[0].until_s <= now_s):
            waiter = heappop(self._deadlines)
            if waiter.token is not None:
                expired.append(waiter.token)
                self._leave(waiter)
        return expired

    def next_deadline(self) -> float | None:
        """When ``expire`` will next have something to do."""
        while self._deadlines and self._deadlines[0].token is None:
            heappop(self._deadlines)
        return self._deadlines[0].until_s if self._deadlines else None

    def _leave(self, waiter: _Waiter[T]) -> None:
        assert waiter.token is not None
        del self._waiters[waiter.token]
        waiter.token = None
        waiters = self._lines[waiter.line]
        if waiters[0] is waiter:
            waiters.popleft()
        else:
            waiters.remove(waiter)
        if not waiters:
            del self._lines[waiter.line]
        _, priority, tenant = waiter.line
        self.by_priority[priority] -= 1
        self.by_tenant[tenant] -= 1
        model = waiter.request.model
        self.by_model[model] -= 1
        if not self.by_model[model]:
            del self.by_model[model]
        if not self.by_tenant[tenant]:
            del self.by_tenant[tenant], self._turns[tenant]
        if len(self._deadlines) > 2 * len(self._waiters) + 16:
            self._deadlines = [w for w in self._deadlines if w.token is not None]
            heapify(self._deadlines)
