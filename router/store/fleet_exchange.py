"""Routers tell each other their requests in flight at each backend, and which prompts they sent where.

The first prevents that a router takes a busy backend for an idle one; the second prevents that a prompt is computed
again although a backend has it in its cache, sent there by another router.

A message replaces the one before it, and a router may miss some. So each message has all requests in flight, while the
blocks of a prompt, which are news only once, stay in several messages; numbers tell the receiver which are new.
"""

from __future__ import annotations

import asyncio
import struct
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from router.core.cost import peers_share
from router.core.params import Params
from router.store.asking import Asking, Question, Responder
from router.store.base import Store
from router.store.courier import LinkError
from router.store.shared import SharedStore
from router.tasks import stop, supervise

PERIOD_S = 0.1
#: The same while there are no other routers.
ALONE_PERIOD_S = 0.5
#: More routers than this exchange more seldom, for each reads all others: their traffic grows with the square of their
#: number. Five times as seldom at most, so that what is read is hardly faded.
QUICK_ROUTERS = 10
_SLOWEST = 5.0
#: Most backends in one message: the busiest.
BACKENDS_MAX = 1024
#: How many messages repeat the same prefixes: a receiver may miss all except one.
TOLD_TIMES = 5
#: Most blocks in one message, four bytes each: the newest. Leaving out the rest costs cache hits only.
BLOCKS_MAX = 8192
#: A piece of a message is complete with this many blocks.
PIECE_BLOCKS = 1024

#: Backend -> leases in flight, and uncached prompt tokens among them.
Counts = Mapping[str, tuple[int, int]]
#: A backend, and the hashes of blocks it was sent: unsigned, 32 bits.
News = tuple[str, Sequence[int]]


class _Piece(NamedTuple):
    """Blocks of one or several prompts as they are sent: ``number`` grows by one from piece to piece of a router."""

    number: int
    backend: str
    packed: str  # for each prompt the number of its blocks, then the blocks; four bytes each, little endian, base64

    @classmethod
    def of(cls, number: int, backend: str, words: Sequence[int]) -> _Piece:
        return cls(number, backend, b64encode(struct.pack(f"<{len(words)}I", *words)).decode())

    def prompts(self) -> Iterator[Sequence[int]]:
        """The blocks of each prompt; empty when the piece cannot be read."""
        try:
            raw = b64decode(self.packed)
            words = struct.unpack(f"<{len(raw) // 4}I", raw)
        except (ValueError, struct.error):
            return
        at = 0
        while at < len(words):
            end = at + 1 + words[at]
            yield words[at + 1 : end]
            at = end


def _gathered(news: Iterable[News]) -> Iterator[tuple[str, list[int]]]:
    """By backend, so that a busy router's message is a few pieces and not hundreds."""
    filling: dict[str, list[int]] = {}
    for backend, blocks in news:
        words = filling.setdefault(backend, [])
        blocks = blocks[: BLOCKS_MAX - 1]
        words.append(len(blocks))
        words += blocks
        if len(words) >= PIECE_BLOCKS:
            yield backend, filling.pop(backend)
    yield from filling.items()


class _Message(NamedTuple):
    counts: dict[str, tuple[int, int]]
    pieces: list[_Piece]
    card: dict[str, Any] | None = None
    questions: Sequence[Sequence[Any]] = ()


class Peer(NamedTuple):
    """Another router. ``card`` is its word about itself; ``age_s``: how long ago it was last heard."""

    id: str
    name: str
    age_s: float
    card: dict[str, Any]


class FleetExchange:
    """Publishes this router's counts and news every PERIOD_S and hands over what the others told. While nobody else is
    there it looks more seldom.

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
        self._messages: dict[str, tuple[float, dict[str, tuple[int, int]]]] = {}  # router -> when it was true, counts
        self._told: deque[list[_Piece]] = deque(maxlen=TOLD_TIMES)
        self._number = 0
        self._read: dict[str, int] = {}  # router -> the number of its last piece that was handed over
        #: this router's word about itself to the others; it has a ``name``
        self.card: dict[str, Any] = {}
        self._cards: dict[str, dict[str, Any]] = {}
        self._wake = asyncio.Event()
        self._asking = None
        if self._store is not None:
            self._asking = Asking(self._store, monotonic_s=monotonic_s, hasten=self._wake.set)
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<FleetExchange {len(self._messages)} peers>"

    @property
    def others(self) -> int:
        """The routers whose counts were heard lately."""
        return len(self._messages)

    async def start(self) -> None:
        if self._store is not None:
            self._task = supervise(self._loop, name="fleet exchange")

    async def stop(self) -> None:
        await stop(self._task)
        self._task = None

    def peers(self) -> dict[str, tuple[int, int]]:
        """The other routers' counts as last told: the older, the less they count."""
        now_s = self._monotonic_s()
        total: dict[str, tuple[int, int]] = {}
        for at_s, counts in self._messages.values():
            weight = peers_share(now_s - at_s, self._params)
            if not weight:
                continue
            for backend, (inflight, tokens) in counts.items():
                so_far = total.get(backend, (0, 0))
                total[backend] = (so_far[0] + round(weight * inflight), so_far[1] + round(weight * tokens))
        return total

    def known(self) -> list[Peer]:
        """The other routers that can be asked, by name."""
        now_s = self._monotonic_s()
        found = [
            Peer(id_, str(card["name"]), max(0.0, now_s - self._messages[id_][0]), card)
            for id_, card in self._cards.items()
        ]
        return sorted(found, key=lambda peer: (peer.name, peer.id))

    def answer(self, respond: Responder) -> None:
        """Have ``respond`` answer the others' questions."""
        if self._asking is not None:
            self._asking.respond = respond

    async def ask(self, what: str, about: dict[str, str], routers: Sequence[str]) -> dict[str, bytes]:
        """The answers of other routers, by their id. Those that do not answer in time are not in it."""
        return {} if self._asking is None else await self._asking.ask(what, about, routers)

    async def publish(self, counts: Counts) -> None:
        """Publish our counts and news, and read those of the others. Does nothing while the store is away."""
        if self._store is None:
            return
        self._told.append([self._piece(*piece) for piece in _gathered(self._news())])
        try:
            questions = self._asking.questions if self._asking is not None else []
            raws = await self._store.exchange(encoded(counts, _newest(self._told), self.card, questions))
        except LinkError:
            return
        now_s = self._monotonic_s()
        messages = {router: (age_s, _decoded(raw)) for router, age_s, raw in raws if peers_share(age_s, self._params)}
        self._messages = {router: (now_s - age_s, message.counts) for router, (age_s, message) in messages.items()}
        self._read = {router: self._learn(router, message.pieces) for router, (_, message) in messages.items()}
        self._cards = {router: message.card for router, (_, message) in messages.items() if message.card}
        if self._asking is not None:
            for _, message in messages.values():
                self._asking.heard(message.questions)

    def _piece(self, backend: str, words: Sequence[int]) -> _Piece:
        self._number += 1
        return _Piece.of(self._number, backend, words)

    def _learn(self, router: str, pieces: Sequence[_Piece]) -> int:
        """Hand over that router's new pieces. Returns the number of its last one."""
        read = self._read.get(router, 0)
        if not pieces:
            return read
        last = pieces[-1].number
        if last < read:
            read = 0  # that router was started again
        for piece in pieces:
            if piece.number > read:
                for blocks in piece.prompts():
                    self._learned(piece.backend, blocks)
        return last

    async def _loop(self) -> None:
        told: set[str] = set()
        while True:
            began_s = self._monotonic_s()
            await self.publish(self._counts())
            peers = self.peers()
            self._heard(dict.fromkeys(told, (0, 0)) | peers)
            told = set(peers)
            pause_s = period_s(self.others) - (self._monotonic_s() - began_s)
            try:
                async with asyncio.timeout(max(0.0, pause_s)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()


def period_s(others: int) -> float:
    """How often a router exchanges beside this number of others."""
    if not others:
        return ALONE_PERIOD_S
    return PERIOD_S * min(max(1.0, (others + 1) / QUICK_ROUTERS), _SLOWEST)


def _busiest(counts: Counts) -> dict[str, tuple[int, int]]:
    busy = [(name, count) for name, count in counts.items() if any(count)]
    if len(busy) > BACKENDS_MAX:
        busy = sorted(busy, key=lambda item: item[1], reverse=True)[:BACKENDS_MAX]
    return dict(busy)


def _newest(told: Sequence[Sequence[_Piece]]) -> list[_Piece]:
    """The latest pieces, as many as a message may hold, oldest first."""
    room = BLOCKS_MAX
    kept: list[_Piece] = []
    for piece in (piece for pieces in reversed(told) for piece in reversed(pieces)):
        room -= len(piece.packed) * 3 // 16  # base64 needs four characters for three bytes
        if room < 0:
            break
        kept.append(piece)
    return kept[::-1]


def encoded(
    counts: Counts, pieces: Sequence[_Piece], card: Mapping[str, Any] | None = None, questions: Sequence[Question] = ()
) -> bytes:
    told = {"counts": _busiest(counts), "prefixes": [tuple(piece) for piece in pieces], "card": card or {}}
    return orjson.dumps(told | ({"questions": [tuple(q) for q in questions]} if questions else {}))


def _decoded(raw: bytes) -> _Message:
    """None: the message is of another version and cannot be read."""
    try:
        told = orjson.loads(raw)
        counts = {str(name): (max(0, int(pair[0])), max(0, int(pair[1]))) for name, pair in told["counts"].items()}
        pieces = [_Piece(int(number), str(backend), str(packed)) for number, backend, packed in told["prefixes"]]
        card = told.get("card")
        known = card if isinstance(card, dict) and card.get("name") else None
        questions = [(str(id_), str(what), dict(about)) for id_, what, about in told.get("questions", ())]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return _Message({}, [])
    return _Message(counts, pieces, known, questions)
