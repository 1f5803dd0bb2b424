"""Routers tell each other their requests in flight at each backend, and which prompts they sent where.

The first prevents that a router takes a busy backend for an idle one; the second prevents that a prompt is computed
again although a backend has it in its cache, sent there by another router.

News is published to all that listen, every PERIOD_S: it arrives one way to the store and one way from it later,
however far that is, because nobody waits for an answer before the next message. Beside that each router keeps a message
in the store, which the others read now and then: those that start, or missed something. A router that does not hear its
own messages on the channel reads with each message instead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from router.complaint import Complaint
from router.core.cost import peers_share
from router.core.params import Params
from router.store.asking import Asking, Question, Responder
from router.store.base import Store
from router.store.courier import LinkError
from router.store.shared import SharedStore
from router.store.tidings import Counts, News, Outbox, Teller, Tidings
from router.tasks import spawn, stop, supervise

_log = logging.getLogger("router.store")

PERIOD_S = 0.06
#: The same while there are no other routers.
ALONE_PERIOD_S = 0.5
#: More routers than this tell more seldom, for each hears all others: their traffic grows with the square of their
#: number; and so do those that tell more counts than this together. SLOWEST_S at most, so that what is heard is hardly
#: faded.
QUICK_ROUTERS = 10
QUICK_COUNTS = 1000
SLOWEST_S = 0.45
#: How often the message in the store is replaced and those of the others are read: before their counts fade.
KEEP_S = 0.4
#: What several routers told at about the same time is passed on together; and passing on, which takes longer the more
#: there are, takes a thirtieth of the time at most.
GATHER_S = 0.005
_GATHER_FACTOR = 30
#: A router that has not heard itself for this long does not rely on the channel, and after SILENT_S listens again.
ECHO_S = 2.0
SILENT_S = 10.0
_AGAIN_S = 1.0
#: How long each message has the card, once a router may be there that does not know it: that can be asked nothing and
#: is missing from answers about all routers.
INTRODUCE_S = 1.0
#: Messages under way; while this many have no answer, none is sent.
_UNDER_WAY_MAX = 64
#: A router that was heard this lately is there, although a reading from before does not have it.
_LATELY_S = 1.0
_NONE = (0, 0)


class Peer(NamedTuple):
    """Another router. ``card`` is its word about itself; ``age_s``: how long ago it was last heard."""

    id: str
    name: str
    age_s: float
    card: dict[str, Any]


class FleetExchange:
    """Tells this router's counts and news and hands over what the others told. While nobody else is there it tells more
    seldom.

    ``heard`` gets the sum of the other routers' counts; a backend that they no longer use comes once more, with zeros.
    ``learned`` gets each piece of news once. Does nothing unless the store is shared. While the store is away
    ``heard`` gets the last known counts, which fade.
    """

    def __init__(
        self,
        store: Store,
        counts: Callable[[], Counts],
        heard: Callable[[Counts], None],
        *,
        monotonic_s: Callable[[], float],
        params: Params,
        news: Callable[[], Sequence[News]] = tuple,
        learned: Callable[[str, Sequence[int]], None] = lambda _backend, _blocks: None,
    ) -> None:
        self._store = store if isinstance(store, SharedStore) else None
        self._counts = counts
        self._heard = heard
        self._news = news
        self._learned = learned
        self._monotonic_s = monotonic_s
        self._params = params  # says how old counts fade
        self._outbox = Outbox(monotonic_s)
        self._others: dict[str, Teller] = {}
        self._kept_s = self._echo_s = float("-inf")  # when we last kept a message, and last heard ourselves
        self._introduce_until_s = self._told_s = float("-inf")  # ``_told_s``: when we last told something
        self._asked = self._answered = 0  # numbers of the messages: the last, and the last that was answered
        self._passed_on: set[str] = set()  # backends of which ``heard`` last got counts
        self._passing: asyncio.TimerHandle | None = None
        self._passing_s = 0.0  # how long it took last
        self._patience: asyncio.Timeout | None = None
        #: this router's word about itself to the others; it has a ``name``
        self.card: dict[str, Any] = {}
        self._wake = asyncio.Event()
        self._asking = None
        if self._store is not None:
            self._asking = Asking(self._store, monotonic_s=monotonic_s, hasten=self._wake.set)
        self._complaint = Complaint()
        self._tasks: list[asyncio.Task[None]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<FleetExchange {len(self._others)} peers>"

    @property
    def others(self) -> int:
        """The routers whose counts were heard lately."""
        return len(self._others)

    @property
    def listens(self) -> bool:
        """Does what is published arrive here?"""
        return self._monotonic_s() - self._echo_s < ECHO_S

    async def start(self) -> None:
        if self._store is not None:
            self._tasks = [
                supervise(self._loop, name="fleet exchange"),
                supervise(self._listen, name="fleet listener"),
            ]

    async def stop(self) -> None:
        await stop(*self._tasks)
        await stop(*self._under_way)
        self._tasks = []
        if self._passing is not None:
            self._passing.cancel()

    def peers(self) -> dict[str, tuple[int, int]]:
        """The other routers' counts as last told: the older, the less they count."""
        now_s = self._monotonic_s()
        total: dict[str, tuple[int, int]] = {}
        for other in self._others.values():
            weight = peers_share(now_s - other.at_s, self._params)
            if not weight:
                continue
            faded = other.counts
            if weight < 1.0:
                faded = {name: (round(weight * n), round(weight * tokens)) for name, (n, tokens) in faded.items()}
            for backend, (inflight, tokens) in faded.items():
                there, tokens_there = total.get(backend, _NONE)
                total[backend] = (there + inflight, tokens_there + tokens)
        return total

    def known(self) -> list[Peer]:
        """The other routers that can be asked, by name."""
        now_s = self._monotonic_s()
        found = [
            Peer(id_, str(other.card["name"]), max(0.0, now_s - other.at_s), dict(other.card))
            for id_, other in self._others.items()
            if other.card
        ]
        return sorted(found, key=lambda peer: (peer.name, peer.id))

    def answer(self, respond: Responder) -> None:
        """Have ``respond`` answer the others' questions."""
        if self._asking is not None:
            self._asking.respond = respond

    async def ask(self, what: str, about: dict[str, str], routers: Sequence[str]) -> dict[str, bytes]:
        """The answers of other routers, by their id. Those that do not answer in time are not in it."""
        return {} if self._asking is None else await self._asking.ask(what, about, routers)

    async def publish(self, counts: Counts, *, keep: bool = True) -> None:
        """Tell our counts and news; with ``keep`` also to those that do not listen, and read what the others keep. Does
        nothing while the store is away."""
        if self._store is None:
            return
        pieces, questions, card = self._outbox.pack(self._news()), self._questions(), self._introduction()
        if not keep and card is None and not self._outbox.changed(counts, pieces, questions):
            return
        fresh = self._outbox.fresh(counts, pieces, questions, card)
        kept = self._outbox.kept(counts, self.card, questions) if keep else b""
        self._asked += 1
        number = self._asked
        try:
            found = await self._store.exchange(kept, fresh, read=keep)
        except LinkError:
            return
        if keep:
            self._read(found, number)

    def hear(self, message: bytes | None) -> None:
        """One that was published; None: we listen from now on."""
        if message is None or self._store is None:
            return
        router, _, raw = message.partition(b"\n")
        now_s, name = self._monotonic_s(), router.decode(errors="replace")
        if name == self._store.router:
            self._echo_s = now_s
            if self._patience is not None:
                self._patience.reschedule(asyncio.get_running_loop().time() + SILENT_S)
            return
        if name not in self._others:
            self._introduce_until_s = now_s + INTRODUCE_S
            self._wake.set()  # we are not alone
        self._take(name, raw, now_s).told_s = now_s
        self._pass_on_soon()

    def _read(self, found: Sequence[tuple[str, float, bytes]], number: int) -> None:
        """Take the messages that the others keep in the store. An answer that a later one has overtaken does not know
        who is there."""
        if number < self._answered:
            return
        self._answered = number
        now_s = self._monotonic_s()
        there = {router for router, age_s, _ in found if peers_share(age_s, self._params)}
        for router in [r for r, other in self._others.items() if now_s - other.told_s > _LATELY_S and r not in there]:
            del self._others[router]
        for router, age_s, raw in found:
            if router in there:
                self._take(router, raw, now_s - age_s)
        self._pass_on_soon()

    def _take(self, router: str, raw: bytes, at_s: float) -> Teller:
        other = self._others.get(router)
        if other is None:
            other = self._others[router] = Teller(at_s)
        message = Tidings.decoded(raw)
        other.take(message, at_s, self._learned)
        if self._asking is not None:
            self._asking.heard(message.questions)
        return other

    def _introduction(self) -> dict[str, Any] | None:
        """The card, if others may not know it: they have just come, or have not heard this router for so long that
        they have forgotten it."""
        now_s = self._monotonic_s()
        if now_s - self._told_s > INTRODUCE_S:
            self._introduce_until_s = now_s + INTRODUCE_S
        self._told_s = now_s
        return self.card if now_s < self._introduce_until_s else None

    def _questions(self) -> list[Question]:
        return self._asking.questions if self._asking is not None else []

    def _pass_on_soon(self) -> None:
        if self._passing is None:
            wait_s = max(GATHER_S, _GATHER_FACTOR * self._passing_s)
            self._passing = asyncio.get_running_loop().call_later(wait_s, self._pass_on)

    def _pass_on(self) -> None:
        if self._passing is not None:
            self._passing.cancel()
            self._passing = None
        began_s = self._monotonic_s()
        peers = self.peers()
        self._heard(dict.fromkeys(self._passed_on, (0, 0)) | peers)
        self._passed_on = set(peers)
        self._passing_s = self._monotonic_s() - began_s

    async def _loop(self) -> None:
        while True:
            began_s = self._monotonic_s()
            counts = self._counts()
            keep = began_s - self._kept_s >= KEEP_S or not self.listens
            if keep:
                self._kept_s = began_s
                self._pass_on()  # counts that are not renewed fade
            if len(self._under_way) < _UNDER_WAY_MAX:
                sending = spawn(self.publish(counts, keep=keep), name="message to the routers")
                self._under_way.add(sending)
                sending.add_done_callback(self._under_way.discard)
            try:
                async with asyncio.timeout(
                    max(0.0, period_s(self.others, len(counts)) - (self._monotonic_s() - began_s))
                ):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _listen(self) -> None:
        assert self._store is not None
        while True:
            try:
                async with asyncio.timeout(SILENT_S) as self._patience:
                    await self._store.listen(self.hear)
            except (LinkError, TimeoutError) as error:
                if self._store.state == "up" and self._complaint.worth_a_line(str(error), self._monotonic_s()):
                    _log.warning("routers do not hear each other at once: %s", str(error) or "the channel is silent")
            self._patience = None
            await asyncio.sleep(_AGAIN_S)


def period_s(others: int, backends: int = 0) -> float:
    """How often a router tells this number of others what it has in flight at this number of backends."""
    if not others:
        return ALONE_PERIOD_S
    routers = others + 1
    return min(PERIOD_S * max(1.0, routers / QUICK_ROUTERS, routers * backends / QUICK_COUNTS), SLOWEST_S)
