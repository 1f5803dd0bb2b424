"""A reservation in several accounts: a request takes from all of them or from none.

Each account has its own place in the store, so that a cluster can keep them on different nodes, and no script works on
two. Groups hold some of their limits in each router ahead of need (``purse.Purse.keep``), so that as a rule only the
key's account is asked. Those that must be asked are asked at once: it takes one round trip, however many they are.

An account that refuses has held back units of the others for as long as the question took. That errs on the safe side:
no limit is exceeded. But a request for more than the whole of a limit can be made again and again for nothing, so it
asks that account first and takes nothing elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial

from router.core.exposure import beyond
from router.core.limits import Amounts, Units, cost
from router.store.base import Holder, Refusal, Reservation, Shown, ShownRates, Store
from router.tasks import spawn


def reserve_now(
    store: Store,
    holders: Sequence[Holder],
    amounts: Amounts,
    request_id: str,
    now_s: float,
    most: Amounts | None = None,
) -> Reservation | Refusal | None:
    """As ``Store.reserve_now``, in every account."""
    taken: list[Reservation] = []
    for holder in holders:
        answer = store.reserve_now(holder, amounts, request_id, now_s, most)
        if not isinstance(answer, Reservation):
            give_back(store, taken)
            return answer if answer is None else _said_by(holder, answer)
        taken.append(answer)
    return _joined(taken)


async def reserve(
    store: Store,
    holders: Sequence[Holder],
    amounts: Amounts,
    request_id: str,
    now_s: float,
    most: Amounts | None = None,
) -> Reservation | Refusal:
    """As ``Store.reserve``, in every account. What this router holds is taken first, the rest is asked for at once."""
    taken: list[Reservation | None] = [None] * len(holders)
    for place in _hopeless(holders, cost(most or amounts)):
        answer: Reservation | Refusal | None = await store.reserve(holders[place], amounts, request_id, most)
        if isinstance(answer, Refusal):
            give_back(store, taken)
            return _said_by(holders[place], answer)
        taken[place] = answer
    for place, holder in enumerate(holders):
        if taken[place] is None:
            answer = store.reserve_now(holder, amounts, request_id, now_s, most)
            if isinstance(answer, Refusal):
                give_back(store, taken)
                return _said_by(holder, answer)
            taken[place] = answer
    places = [place for place, found in enumerate(taken) if found is None]
    tasks = [
        spawn(store.reserve(holders[place], amounts, request_id, most), name=f"reserve {holders[place].id}")
        for place in places
    ]
    refused: Refusal | None = None
    try:
        if tasks:
            await asyncio.wait(tasks)
        for place, task in zip(places, tasks, strict=True):
            answer = task.result()
            if isinstance(answer, Reservation):
                taken[place] = answer
            elif refused is None:
                refused = _said_by(holders[place], answer)
    except BaseException:
        give_back(store, taken)
        for task in tasks:
            task.add_done_callback(partial(give_back_later, store))
        raise
    if refused is not None:
        give_back(store, taken)
        return refused
    return _joined([found for found in taken if found is not None])


def _hopeless(holders: Sequence[Holder], units: Units) -> list[int]:
    """The places of those with a limit that is less than all that is asked for."""
    return [place for place, holder in enumerate(holders) if beyond(units, holder.plan.limits)]


def settle(store: Store, reservation: Reservation, used: Amounts | None) -> None:
    """As ``Store.settle``, in every account."""
    store.settle(reservation, used)
    for other in reservation.others:
        store.settle(other, used)


def give_back(store: Store, taken: Iterable[Reservation | None]) -> None:
    for reservation in taken:
        if reservation is not None:
            settle(store, reservation, None)


def give_back_later(store: Store, done: asyncio.Task[Reservation | Refusal]) -> None:
    """A task that reserved is over, and nobody waits for what it took."""
    if not done.cancelled() and done.exception() is None and isinstance(answer := done.result(), Reservation):
        settle(store, answer, None)


def _said_by(holder: Holder, refusal: Refusal) -> Refusal:
    refusal.holder = holder
    return refusal


def _joined(taken: Sequence[Reservation]) -> Reservation:
    """The first has the others. Its headers tell the rates of which least is left."""
    first = taken[0]
    first.others = tuple(taken[1:])
    for other in first.others:
        first.shown = _tightest(first.shown, other.shown)
    return first


def _tightest(a: ShownRates, b: ShownRates) -> ShownRates:
    if not b:
        return a
    if not a:
        return b
    least: dict[str, Shown] = {rate.limit: rate for rate in a}
    changed = False
    for rate in b:
        known = least.get(rate.limit)
        if known is None or rate.remaining < known.remaining:
            least[rate.limit] = rate
            changed = True
    return ShownRates(least.values()) if changed else a
