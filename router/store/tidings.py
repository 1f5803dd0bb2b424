"""The messages in which routers tell each other what they have in flight and which prompts they sent where.

A message has all requests in flight of a router, so that one replaces the one before it. The blocks of a prompt are
news once: pieces of news are numbered, so that each is learned once, whichever way it comes and however often.

A message is JSON, compressed: of names and counts more than half is saved. Hashes are as good as random, so that of
those only base64's own third is.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from router.store.asking import Question

#: Most backends in one message: the busiest.
BACKENDS_MAX = 1024
#: Most blocks in one message, four bytes each: the newest. Leaving out the rest costs cache hits only.
BLOCKS_MAX = 8192
#: A piece of a message is complete with this many blocks.
PIECE_BLOCKS = 1024
#: How long news stays in the messages that are kept, for those who missed it.
KEPT_S = 2.0
#: Pieces of a router that may still come after a later one.
MISSING_MAX = 1024
#: Most bytes of a message that is unpacked.
MESSAGE_BYTES = 1 << 20

#: Backend -> leases in flight, and uncached prompt tokens among them.
Counts = Mapping[str, tuple[int, int]]
#: A backend, and the hashes of blocks it was sent: unsigned, 32 bits.
News = tuple[str, Sequence[int]]
Learned = Callable[[str, Sequence[int]], None]


class Piece(NamedTuple):
    """Blocks of one or several prompts as they are sent: ``number`` grows by one from piece to piece of a router."""

    number: int
    backend: str
    packed: str  # for each prompt the number of its blocks, then the blocks; four bytes each, little endian, base64

    @classmethod
    def of(cls, number: int, backend: str, words: Sequence[int]) -> Piece:
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


class Tidings(NamedTuple):
    """A message. ``era`` is another one after a restart; ``serial`` grows by one from message to message."""

    era: str
    serial: int
    counts: Counts
    pieces: Sequence[Piece] = ()
    card: Mapping[str, Any] | None = None
    questions: Sequence[Question] = ()

    def encoded(self) -> bytes:
        told: dict[str, Any] = {"era": self.era, "serial": self.serial, "counts": _busiest(self.counts)}
        for name, value in (("prefixes", self.pieces), ("questions", self.questions)):
            if value:
                told[name] = [tuple(each) for each in value]
        if self.card:
            told["card"] = self.card
        return zlib.compress(orjson.dumps(told), 1)

    @classmethod
    def decoded(cls, raw: bytes) -> Tidings:
        """An empty message: it is of another version and cannot be read."""
        try:
            told = orjson.loads(_unpacked(raw))
            counts = {str(name): (max(0, int(pair[0])), max(0, int(pair[1]))) for name, pair in told["counts"].items()}
            pieces = [
                Piece(int(number), str(backend), str(packed)) for number, backend, packed in told.get("prefixes", ())
            ]
            card = told.get("card")
            known = card if isinstance(card, dict) and card.get("name") else None
            questions = [Question(str(id_), str(what), dict(about)) for id_, what, about in told.get("questions", ())]
            return cls(str(told.get("era", "")), int(told.get("serial", 0)), counts, pieces, known, questions)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, zlib.error):
            return cls("", 0, {})


def _unpacked(raw: bytes) -> bytes:
    """Earlier versions do not compress."""
    return raw if raw[:1] == b"{" else zlib.decompressobj().decompress(raw, MESSAGE_BYTES)


class Outbox:
    """The messages of this router. News goes into one message for those that listen, and for KEPT_S into those that are
    kept for the others."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self.era = secrets.token_hex(4)
        self._monotonic_s = monotonic_s
        self._number = self._serial = 0
        self._kept: deque[tuple[float, Piece]] = deque()
        self._told: tuple[Counts, Sequence[Question]] = ({}, [])  # in the last message

    def pack(self, news: Iterable[News]) -> list[Piece]:
        """Pieces of this news."""
        now_s = self._monotonic_s()
        pieces = []
        for backend, words in _gathered(news):
            self._number += 1
            pieces.append(Piece.of(self._number, backend, words))
        self._kept.extend((now_s, piece) for piece in pieces)
        while self._kept and now_s - self._kept[0][0] > KEPT_S:
            self._kept.popleft()
        return pieces

    def changed(self, counts: Counts, pieces: Sequence[Piece], questions: Sequence[Question]) -> bool:
        """Is this anything that the last message did not say?"""
        return bool(pieces) or (counts, questions) != self._told

    def fresh(
        self,
        counts: Counts,
        pieces: Sequence[Piece],
        questions: Sequence[Question],
        card: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The message for those that listen; with the ``card`` for those that may not know this router."""
        self._serial += 1
        self._told = (dict(counts), list(questions))
        return Tidings(self.era, self._serial, counts, _newest(pieces), card, questions).encoded()

    def kept(self, counts: Counts, card: Mapping[str, Any], questions: Sequence[Question]) -> bytes:
        """The message that the store keeps: as of the last fresh one."""
        pieces = _newest([piece for _, piece in self._kept])
        return Tidings(self.era, self._serial, counts, pieces, card, questions).encoded()


class Teller:
    """Another router, by its messages."""

    __slots__ = ("_era", "_last", "_missing", "_serial", "at_s", "card", "counts", "told_s")

    def __init__(self, now_s: float) -> None:
        self.counts: Counts = {}
        self.card: Mapping[str, Any] | None = None
        #: when the counts were true, and when it last told something that we heard at once
        self.at_s = now_s
        self.told_s = float("-inf")
        self._era = ""
        self._serial = -1
        self._last = 0  # the number of the last piece
        self._missing: dict[int, None] = {}  # pieces before it, the oldest first

    def take(self, message: Tidings, at_s: float, learned: Learned) -> bool:
        """Hand over news that is new. Is the message itself newer than those before it?"""
        if message.era != self._era:
            self._era, self._serial, self._last, self._missing = message.era, -1, 0, {}
        for piece in message.pieces:
            if self._is_new(piece.number):
                for blocks in piece.prompts():
                    learned(piece.backend, blocks)
        self.card = message.card or self.card
        newer = message.serial > self._serial or not message.era
        if newer:
            self._serial, self.counts, self.at_s = message.serial, message.counts, at_s
        return newer

    def _is_new(self, number: int) -> bool:
        if number <= self._last:
            return self._missing.pop(number, self) is None
        self._missing.update(dict.fromkeys(range(max(self._last + 1, number - MISSING_MAX), number)))
        while len(self._missing) > MISSING_MAX:
            del self._missing[next(iter(self._missing))]
        self._last = number
        return True


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


def _busiest(counts: Counts) -> Counts:
    busy = [(name, count) for name, count in counts.items() if any(count)]
    if len(busy) > BACKENDS_MAX:
        busy = sorted(busy, key=lambda item: item[1], reverse=True)[:BACKENDS_MAX]
    return dict(busy)


def _newest(pieces: Sequence[Piece]) -> list[Piece]:
    """The latest pieces, as many as a message may hold, oldest first."""
    room = BLOCKS_MAX
    kept: list[Piece] = []
    for piece in reversed(pieces):
        room -= len(piece.packed) * 3 // 16  # base64 needs four characters for three bytes
        if room < 0:
            break
        kept.append(piece)
    return kept[::-1]
