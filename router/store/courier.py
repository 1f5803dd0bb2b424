"""Carries commands to the shared store in batches, and never lets a caller wait longer than its patience.

All commands posted in one turn of the event loop travel in one pipeline, in the order in which they were posted.
Silence counts against the store after ``Patience.answer_s`` in which this process could have read an answer; what is
done in the background waits no longer. A request that can be served without the answer is, after ``Patience.request_s``
by the clock; one that cannot waits on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from router.deadline import Deadline
from router.store.patience import Patience
from router.store.scripts import Script, Word
from router.tasks import spawn

PIPELINE_COMMANDS = 256
#: Pipelines under way at once. With so many the answers of a store 300 ms away come every 5 ms.
PIPELINES = 64


class LinkError(Exception):
    """The store did not answer, or refused to work. The text is for the log and holds no secret."""


class LateError(LinkError):
    """The store has not answered in time. It may well have done what it was asked. ``held_up``: so was this process."""

    def __init__(self, *, held_up: bool) -> None:
        super().__init__("no answer in time")
        self.held_up = held_up


class NodeAwayError(LinkError):
    """As a reply: the node of the cluster that has this key did not answer. Other nodes may answer."""


class Command(NamedTuple):
    """``words`` as they are sent. A ``script`` is called by its digest, and by its text where it is not loaded."""

    words: tuple[Word, ...]
    script: Script | None = None


def call(script: Script, keys: Sequence[str], args: Sequence[Word]) -> Command:
    return Command(("EVALSHA", script.sha, len(keys), *keys, *args), script)


def heard(future: asyncio.Future[Any]) -> None:
    """Nobody waits for the answer, but an exception that nobody looks at would be logged."""
    if not future.cancelled():
        future.exception()


class Link(Protocol):
    """Connections to the store, and how long its answers take."""

    patience: Patience

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """One pipeline; a command that was refused has an exception as its reply. Ends by ``Patience.give_up_s``, or
        later where it has to connect first.

        Raises LinkError if the store did not answer or cannot work: read-only, loading, out of memory. What its access
        list does not permit is a reply.
        """

    async def drop(self) -> None:
        """Close every connection; the next command opens new ones and asks again where the store is."""

    async def eviction_policy(self) -> str | None:
        """The store's ``maxmemory-policy``: what it deletes when it is short of memory. None: it does not say."""

    async def listen(self, channel: str, heard: Callable[[bytes | None], None]) -> None:
        """Call ``heard`` with None when subscribed, and with every message, until cancelled. Raises LinkError."""

    async def close(self) -> None: ...


class Report(Protocol):
    """Is told how each pipeline ended, and decides whether another one is worth sending."""

    @property
    def up(self) -> bool: ...

    def succeeded(self) -> None: ...

    def failed(self, reason: str) -> None: ...


class _Batch:
    """The commands of one pipeline, and the callers that wait for each."""

    __slots__ = (
        "_answer",
        "_request",
        "_silent",
        "commands",
        "expired",
        "futures",
        "hurried",
        "late",
        "lost",
        "patient",
        "posted_s",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, patience: Patience, silent: Callable[[float], None]) -> None:
        self.commands: list[Command] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.late: list[Callable[[Any], None] | None] = []
        self.lost: list[Callable[[], None] | None] = []
        self.hurried: list[Callable[[bool], None]] = []
        self.patient: set[asyncio.Future[Any]] = set()  # those of ``hurried``
        self.expired = False
        self.posted_s = loop.time()
        self._silent = silent
        answer_s, request_s = patience.answer_s, patience.request_s
        self._answer = Deadline(loop, answer_s, self._expire)
        self._request = Deadline(loop, request_s, self._hurry, fairness=0.0)

    def fail(self, error: LinkError) -> None:
        self._stop()
        _fail(self.futures, error)
        for lost in self.lost:
            if lost is not None:
                lost()

    def _stop(self) -> None:
        self._answer.cancel()
        self._request.cancel()

    def give_up(self) -> None:
        """The store is away: nobody waits for it. An answer may come all the same."""
        _fail(self.futures, LinkError("the store is away"))

    def too_late(self) -> LateError:
        return LateError(held_up=self._answer.held_up)

    def _hurry(self) -> None:
        self._request.cancel()
        hurried, self.hurried = self.hurried, []
        for each in hurried:
            each(self._request.held_up)

    def _expire(self) -> None:
        self.expired = True
        self._silent(self.posted_s)  # first of all: those who wait go by whether the store is away
        self._hurry()
        _fail([future for future in self.futures if future not in self.patient], self.too_late())

    def deliver(self, replies: list[Any]) -> None:
        self._stop()
        for future, late, lost, reply in zip(self.futures, self.late, self.lost, replies, strict=True):
            if isinstance(reply, Exception):
                if lost is not None:
                    lost()
                if not future.done():
                    away = isinstance(reply, NodeAwayError)
                    future.set_exception(reply if away else LinkError(f"refused: {reply}"))
            elif not future.done():
                future.set_result(reply)
            elif late is not None:
                late(reply)


def _fail(futures: Sequence[asyncio.Future[Any]], error: LinkError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)


class Courier:
    def __init__(self, link: Link, report: Report) -> None:
        self._link = link
        self.patience = link.patience
        self._report = report
        self._filling: _Batch | None = None
        self._waiting: deque[_Batch] = deque()
        self._heard_s = self._struck_s = -1.0  # when an answer last came, and when silence last counted
        self._under_way: set[_Batch] = set()

    def __repr__(self) -> str:
        return f"<Courier {len(self._under_way)} pipelines, {len(self._waiting)} waiting>"

    @property
    def up(self) -> bool:
        return self._report.up

    def post(
        self,
        command: Command,
        late: Callable[[Any], None] | None = None,
        *,
        lost: Callable[[], None] | None = None,
        hurried: Callable[[bool], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Send a command. The future gets its reply, or LinkError: at once while the store is away, else when silence
        counts against it. ``late`` is called with a reply that came after its future was done, ``lost`` when no reply
        will ever come: the store may or may not have done what it was asked. ``hurried`` is called when a request need
        not wait any longer if there is another way, with whether this process was held up; if there is none, it waits
        until the store counts as away, or its pipeline is given up."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._report.up:
            future.set_exception(LinkError("the store is away"))
            if lost is not None:
                lost()
            return future
        batch = self._filling
        if batch is None or len(batch.commands) >= PIPELINE_COMMANDS:
            batch = self._filling = _Batch(loop, self.patience, self._silent)
            self._waiting.append(batch)
            loop.call_soon(self._dispatch)
        batch.commands.append(command)
        batch.futures.append(future)
        batch.late.append(late)
        batch.lost.append(lost)
        if hurried is not None:
            batch.hurried.append(hurried)
            batch.patient.add(future)
        return future

    def _dispatch(self) -> None:
        """Send waiting commands while fewer pipelines than allowed are in progress."""
        self._filling = None
        while self._waiting and len(self._under_way) < PIPELINES:
            batch = self._waiting.popleft()
            if not self._report.up or all(f.done() for f in batch.futures):
                batch.fail(LinkError("the store is away"))
                continue
            self._under_way.add(batch)
            spawn(self._carry(batch), name="store pipeline")

    async def _carry(self, batch: _Batch) -> None:
        try:
            replies = await self._link.run(batch.commands)
        except Exception as error:  # LinkError, and errors that were not foreseen: the callers must get both
            if not batch.expired:
                self._failed(str(error), batch.posted_s)
            late = batch.expired and self._report.up
            batch.fail(batch.too_late() if late else LinkError(str(error)))
        else:
            self._heard_s = asyncio.get_running_loop().time()
            if any(isinstance(reply, NodeAwayError) for reply in replies):
                pass  # the heartbeat finds out whether the store itself is away
            elif all(isinstance(reply, Exception) for reply in replies):
                self._report.failed(f"refused: {replies[0]}")
            else:  # late or not, it is there
                self._report.succeeded()
            batch.deliver(replies)
        finally:
            self._under_way.discard(batch)
            self._dispatch()

    def _silent(self, since_s: float) -> None:
        """A pipeline has no answer yet. That counts if nothing else was heard since it was posted, and once for all
        that were posted before it counted last: a store that answers late is there."""
        if since_s > max(self._heard_s, self._struck_s):
            self.patience.missed()
            self._failed("no answer in time", since_s)

    def _failed(self, reason: str, since_s: float) -> None:
        """All pipelines on a connection end with it: that counts once."""
        if since_s > self._struck_s:
            self._struck_s = asyncio.get_running_loop().time()
            self._report.failed(reason)
            if not self._report.up:
                for batch in (*self._under_way, *self._waiting):
                    batch.give_up()
