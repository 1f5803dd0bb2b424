"""Questions to the store, of requests that this router cannot answer by itself. Those of one account go as one command.

The first question of an account goes with the next pipeline, with all that come in the same turn of the event loop.
While one is under way, others are collected for a small part of a round trip: however many requests come at once for a
key that this router has not served, the store gets some commands for each round trip, and this router some answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from operator import add, sub

from router.core.limits import NOTHING, Units
from router.store.alone import Alone
from router.store.answers import refusal
from router.store.base import Refusal, Reservation
from router.store.courier import Courier, LateError, LinkError, call
from router.store.ledger import Ledger
from router.store.purse import Purse
from router.store.scripts import Script, purse_keys, read_reserve, reserve_args

#: While a question of the account is under way, the next one goes this part of a round trip after it.
PARTS = 16
#: A command with 256 questions keeps a server from others for 2.5 ms, one with a single question for 0.1 ms.
TOGETHER_MAX = 256


class _Question:
    """``needed``: ``units`` for the request, and more to hold. ``least``: that much of ``units`` is certain. ``slot``:
    None once it has been given back."""

    __slots__ = ("answer", "least", "needed", "new", "request_id", "slot", "units")

    def __init__(
        self,
        purse: Purse,
        units: Units,
        request_id: str,
        needed: Units,
        least: Units | None,
        now_s: float,
    ) -> None:
        self.units = units
        self.request_id = request_id
        self.needed = needed
        self.least = least
        self.slot, self.new = purse.slot(now_s)  # new to the store
        self.answer: asyncio.Future[Reservation | Refusal] = asyncio.get_running_loop().create_future()

    @property
    def new_slots(self) -> tuple[str, ...]:
        return (self.slot,) if self.slot is not None and self.new else ()

    def return_slot(self, purse: Purse) -> None:
        """It was not used. One that is new to the store is not there."""
        if self.slot is not None and not self.new:
            purse.slots.back(self.slot)
            self.slot = None


class _Desk:
    """The questions of one account that wait to be sent, and how many commands are under way."""

    __slots__ = ("next_s", "under_way", "waiting")

    def __init__(self) -> None:
        self.waiting: list[_Question] = []
        self.under_way = 0
        self.next_s = 0.0


class Questions:
    def __init__(
        self,
        courier: Courier,
        ledger: Ledger,
        alone: Alone,
        script: Script,
        settle: Callable[[Reservation, None], None],
        *,
        lease_s: float,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._courier = courier
        self._ledger = ledger
        self._alone = alone
        self._script = script
        self._settle = settle
        self._lease_s = lease_s
        self._monotonic_s = monotonic_s
        self._desks: dict[Purse, _Desk] = {}

    def __repr__(self) -> str:
        return f"<Questions of {len(self._desks)} accounts>"

    async def ask(
        self, purse: Purse, units: Units, request_id: str, needed: Units, least: Units | None
    ) -> Reservation | Refusal:
        """Ask the store for what is needed: ``units`` for the request, the rest to hold."""
        question = _Question(purse, units, request_id, needed, least, self._monotonic_s())
        self._put(purse, question)
        try:
            return await question.answer
        except LinkError as error:
            now_s = self._monotonic_s()
            if self._courier.up and isinstance(error, LateError):
                return self._alone.late(purse, units, request_id, now_s, least, busy=error.held_up)
            return await self._alone.decide_soon(purse, units, request_id, now_s, least)
        except BaseException:
            if question.answer.cancelled():
                question.return_slot(purse)
            elif question.answer.exception() is None:  # we are cancelled between its answer and our turn
                answer = question.answer.result()
                if isinstance(answer, Reservation):
                    self._settle(answer, None)
            raise

    def _put(self, purse: Purse, question: _Question) -> None:
        desk = self._desks.get(purse)
        if desk is None:
            desk = self._desks[purse] = _Desk()
        desk.waiting.append(question)
        if len(desk.waiting) > 1:
            return
        purse.taken.asked()
        loop = asyncio.get_running_loop()
        if desk.under_way and desk.next_s > loop.time():
            loop.call_at(desk.next_s, self._send, purse, desk)
        else:
            loop.call_soon(self._send, purse, desk)

    def _send(self, purse: Purse, desk: _Desk) -> None:
        questions, desk.waiting = [q for q in desk.waiting if not q.answer.done()], []
        if not questions:  # nobody waits any more
            purse.taken.answered(NOTHING)
            self._leave(purse, desk)
            return
        if not purse.holds or any(purse.nearly_out(question.units) for question in questions):
            self._ledger.send(purse, everything=True)  # it may be what these requests lack
        for first in range(0, len(questions), TOGETHER_MAX):
            if first:
                purse.taken.asked()
            self._post(purse, desk, questions[first : first + TOGETHER_MAX])
        desk.next_s = asyncio.get_running_loop().time() + self._courier.patience.distance_s / PARTS
        self._ledger.keep(purse, questions[-1].units)
        self._ledger.ask(purse)

    def _post(self, purse: Purse, desk: _Desk, questions: Sequence[_Question]) -> None:
        desk.under_way += 1
        args = [*self._ledger.head(purse), *reserve_args([(q.needed, q.new_slots) for q in questions])]
        command = call(self._script, purse_keys(purse.account, purse.name), args)
        until_s = self._monotonic_s() + self._lease_s
        sent = _Sent(self._ledger, self._alone, purse, questions, until_s, self._monotonic_s)
        slots = tuple(slot for question in questions for slot in question.new_slots)
        lost = partial(self._ledger.lost, purse, slots)
        asked = self._courier.post(command, sent.answered, lost=lost, hurried=sent.hurried)
        asked.add_done_callback(partial(self._done, purse, desk, sent))

    def _done(self, purse: Purse, desk: _Desk, sent: _Sent, asked: asyncio.Future[list[int]]) -> None:
        desk.under_way -= 1
        self._leave(purse, desk)
        if (error := asked.exception()) is not None:
            sent.failed(error)
            return
        try:
            sent.answered(asked.result())
        except Exception as unforeseen:  # nobody may wait for ever
            sent.failed(unforeseen)
            raise

    def _leave(self, purse: Purse, desk: _Desk) -> None:
        if not desk.under_way and not desk.waiting:
            self._desks.pop(purse, None)


class _Sent:
    """A command under way. It may be answered after it has failed: those who asked did not wait any longer."""

    __slots__ = ("_alone", "_answered", "_late", "_ledger", "_monotonic_s", "_purse", "_questions", "_until_s")

    def __init__(
        self,
        ledger: Ledger,
        alone: Alone,
        purse: Purse,
        questions: Sequence[_Question],
        until_s: float,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._alone = alone
        self._purse = purse
        self._questions = questions
        self._until_s = until_s  # the lease of its slots
        self._monotonic_s = monotonic_s
        self._answered = self._late = False

    def hurried(self, held_up: bool) -> None:
        """A request waits no longer for an answer than this, if it can be served on credit. One that cannot would be
        refused without a verdict of the store, and the limits of an account that was never seen are not known to have
        room: these wait on."""
        purse, now_s = self._purse, self._monotonic_s()
        if purse.standing is None and not self._alone.unlimited:
            return
        for question in self._questions:
            if not question.answer.done():
                units, least = question.units, question.least
                answer = self._alone.late(purse, units, question.request_id, now_s, least, busy=held_up)
                if isinstance(answer, Refusal):
                    continue
                question.return_slot(purse)
                question.answer.set_result(answer)

    def answered(self, reply: list[int]) -> None:
        purse, now_s = self._purse, self._monotonic_s()
        shortfalls, standing = read_reserve(reply)
        pairs = list(zip(self._questions, shortfalls, strict=True))
        self._answered = True
        given = [question for question, shortfall in pairs if shortfall is None]
        purse.taken.answered(tuple(map(sum, zip(NOTHING, *(question.needed for question in given), strict=True))))
        for question in given:
            purse.slots.leased(question.new_slots, self._until_s)
        if not self._late:
            self._ledger.note(purse, standing)
        self._ledger.touch(purse)
        for question, shortfall in pairs:
            units, needed = question.units, question.needed
            if shortfall is not None:
                question.return_slot(purse)
                if not question.answer.done():
                    answer = refusal(purse.limits, shortfall, standing, units)
                    purse.refused(answer, units, now_s)
                    question.answer.set_result(answer)
            elif question.answer.done():  # nobody waits for it any more
                purse.put_back(needed, NOTHING, question.slot)
            else:
                purse.balance = list(map(add, purse.balance, map(sub, needed, units)))
                question.answer.set_result(purse.reservation("store", units, question.request_id, question.slot, now_s))

    def failed(self, error: BaseException) -> None:
        if self._answered:  # after the time was over, and before anybody was told
            return
        self._late = True
        for question in self._questions:
            question.return_slot(self._purse)
            if not question.answer.done():
                question.answer.set_exception(error)
