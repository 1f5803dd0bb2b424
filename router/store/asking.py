"""Questions that a router asks the others: what each of them alone knows, such as its requests.

A question travels with the message that routers exchange anyway, and so reaches all of them within a tenth of a second.
Each writes its answer into the store, for some seconds. Nothing is copied that nobody asks for.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, NamedTuple

from router.complaint import Complaint
from router.store.courier import Command, LinkError
from router.store.notes import note_key
from router.store.shared import SharedStore
from router.tasks import spawn

_log = logging.getLogger("router.store")

#: A router that has not answered after this time is left out.
WAIT_S = 1.5
_LOOK_S = 0.015
_KEPT_MS = 5000
#: Questions that are being answered at once; those beyond that get no answer.
_ANSWERING_MAX = 16
#: Questions of others that are remembered, so that each is answered once.
_KNOWN_MAX = 1024


class Question(NamedTuple):
    id: str
    what: str
    about: dict[str, str]


#: Answers a question. None: it is not one that this router understands.
Responder = Callable[[str, dict[str, str]], Awaitable[bytes | None]]


async def _no_answer(what: str, about: dict[str, str]) -> bytes | None:
    return None


class Asking:
    """``hasten`` has the next message sent at once."""

    def __init__(self, store: SharedStore, *, monotonic_s: Callable[[], float], hasten: Callable[[], None]) -> None:
        self.respond: Responder = _no_answer
        self._store = store
        self._monotonic_s = monotonic_s
        self._hasten = hasten
        self._open: dict[str, Question] = {}
        self._known: dict[str, None] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._complaint = Complaint()

    def __repr__(self) -> str:
        return f"<Asking {len(self._open)} questions, {len(self._answering)} answers>"

    @property
    def questions(self) -> list[Question]:
        """Those that the next message carries."""
        return list(self._open.values())

    async def ask(self, what: str, about: dict[str, str], routers: Collection[str]) -> dict[str, bytes]:
        """The answers of those that answer in time, by router."""
        if not routers:
            return {}
        question = Question(secrets.token_hex(8), what, about)
        self._open[question.id] = question
        self._hasten()
        answers: dict[str, bytes] = {}
        until_s = self._monotonic_s() + WAIT_S
        try:
            while len(answers) < len(routers) and self._monotonic_s() < until_s:
                await asyncio.sleep(_LOOK_S)
                waiting = [router for router in routers if router not in answers]
                found = await asyncio.gather(*(self._look(question.id, router) for router in waiting))
                answers |= {router: raw for router, raw in zip(waiting, found, strict=True) if raw is not None}
        finally:
            del self._open[question.id]
        return answers

    def heard(self, questions: Sequence[Sequence[Any]]) -> None:
        """Answer those of another router that are new."""
        for id_, what, about in questions:
            if id_ in self._known or len(self._answering) >= _ANSWERING_MAX:
                continue
            self._known[id_] = None
            if len(self._known) > _KNOWN_MAX:
                del self._known[next(iter(self._known))]
            task = spawn(self._answer(Question(id_, what, about)), name="answer to a router")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _answer(self, question: Question) -> None:
        try:
            raw = await self.respond(question.what, question.about)
            if raw is not None:
                words = ("SET", _key(question.id, self._store.router), zlib.compress(raw, 1), "PX", _KEPT_MS)
                await self._store.call(Command(words))
        except LinkError:
            return
        except Exception as error:  # a question of another version must not end the exchange
            if self._complaint.worth_a_line(f"{question.what}: {error}", self._monotonic_s()):
                _log.exception("the question %r of another router cannot be answered", question.what)

    async def _look(self, id_: str, router: str) -> bytes | None:
        try:
            raw = await self._store.call(Command(("GET", _key(id_, router))))
            return None if raw is None else zlib.decompress(raw)
        except (LinkError, zlib.error):
            return None


def _key(question: str, router: str) -> str:
    return note_key("answer", f"{question}:{router}")
