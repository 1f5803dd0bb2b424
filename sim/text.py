"""What a simulated model says: English-like sentences that are a pure function of the model and of everything before.

The next token depends on nothing but the bytes already there, so an answer that was cut anywhere goes on exactly
where it stopped, on any engine of the same model, no matter whether the part came back as text or as token ids.

A model with ``polyglot`` in its name mixes scripts: characters of two to four bytes, some of which are several tokens;
emoji, marks and joiners that make one sign of several characters.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from dataclasses import dataclass, field
from functools import lru_cache
from zlib import crc32

from sim.tokens import Tokenizer, pieces

_WORDS = {
    "D": "the every each this one another our its that some",
    "A": (
        "quiet bright distant early patient careful warm small long slow swift gentle steady narrow hidden golden "
        "northern silver open clear curious brave tiny ancient restless green hollow faithful"
    ),
    "N": (
        "region router token prompt harbor river signal window morning answer ocean engine cache bridge letter garden "
        "machine lantern cable island city traveler pattern story question tower station winter compass library "
        "mountain clock voice road storm valley queue model sailor field number light stream region"
    ),
    "V": (
        "carries follows remembers finds crosses answers reaches watches keeps gathers opens measures guides holds "
        "learns repeats counts hears awaits returns joins teaches paints"
    ),
    "P": "across over under beside through toward behind within along between near beyond around past before after",
    "R": "today later meanwhile somewhere tonight often sometimes tomorrow here once again",
    "Q": "slowly quietly gently together early twice carefully softly soon always",
}
_POLYGLOT = {
    "D": "每个 その 이 каждый αυτό ένα यह ทุก ცა",
    "A": "静かな 明亮的 조용한 тихий 𠮷祥 ή́συχος शांत เงียบ ✨ ❤️ ö̈ đẹ",
    "N": (
        "地域 サーバー 도시 море ποτάμι नदी แม่น้ำ 🦊 🌍 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 👍🏽 城市 橋 が が 星🌟 🧑🏿‍🚀 "
        "ქალაქი 바다 ключ λίμνη पर्वत 𝔾 ẹ́ ő̂ 漢字かな"
    ),
    "V": "見つける 寻找 기억한다 находит βρίσκει खोजता จำ 🏃‍♀️ 讀 भेजता 운반한다 несёт",
    "P": "の上に 穿过 사이에 через κάτω 🡒 के_पास ใต้".replace("_", ""),
    "R": "今日 今天 오늘 сегодня σήμερα आज วันนี้ ⏰",
    "Q": "ゆっくり 慢慢 천천히 тихо αργά धीरे ช้าๆ 🐢",
}


def _classes(words: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {kind: tuple(dict.fromkeys(some.split())) for kind, some in words.items()}


_CLASSES = _classes(_WORDS)
_POLYGLOT_CLASSES = _classes(_POLYGLOT)

#: One letter stands for a class of words; anything longer is the word itself.
_SENTENCES = tuple(
    tuple(s.split())
    for s in (
        "D A N V D N P D A N .",
        "P D N , D A N V D N .",
        "D N V D A N and D N V D N .",
        "R , D A N V D N P D N .",
        "D N P D N V D A N , while D N V D N .",
        "when D N V D N , D A N V D N Q .",
        "D A N and D A N V D N .",
        "D N Q V D A N P D N .",
        "if D A N V D N , D N V D A N P D N .",
        "R D N V D N , but D A N V D N .",
        "D N V D N because D N V D A N .",
        "P D A N , D N and D N V D N Q .",
    )
)
_LITERALS = ("and", "while", "when", "if", "but", "because")

#: Bytes a natural answer has before it may end; it ends at the next full stop. 1 token is about 5 bytes.
_ANSWER_BYTES = (1400, 2800)

_MASK = (1 << 64) - 1
_ENDS = re.compile(rb"[.!?\n]|\|>")
#: How far back a sentence's start is looked for; no sentence of ours is longer.
_LOOK_BACK = 512


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """The one vocabulary all simulated models share."""
    # Of the words in other scripts every second one is a token; the others have a token for each byte.
    others = [w for words in _POLYGLOT_CLASSES.values() for w in words][::2]
    return Tokenizer([*_LITERALS, *(w for words in _CLASSES.values() for w in words), *others])


def _mix(value: int) -> int:
    """The finaliser of splitmix64: spreads any integer evenly over 64 bits."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


@dataclass(slots=True)
class Answer:
    """A whole answer, known before its first token is due. ``texts[i]`` is what token ``ids[i]`` adds."""

    ids: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    finish_reason: str = "length"
    stop_reason: str | None = None


class _Author:
    """Writes on from ``context``. ``salt`` separates models and samplings."""

    def __init__(self, salt: int, context: bytes, classes: dict[str, tuple[str, ...]]) -> None:
        self._salt = salt
        self._classes = classes
        tail_at = max(0, len(context) - _LOOK_BACK)
        tail = context[tail_at:]
        starts = [m.end() for m in _ENDS.finditer(tail)]
        sentence_at = tail_at + (starts[-1] if starts else 0)
        self._at_marker = sentence_at == 0 or context[sentence_at - 1 : sentence_at] in (b">", b"\n")
        self._start_crc = crc32(context[:sentence_at])
        self._written = pieces(context[sentence_at:])
        self._crc = crc32(context)
        self._owed = self._rest_of_word()

    def _rest_of_word(self) -> bytes:
        """If the context stops inside the very word we would have written there, what is missing of it."""
        if not self._written:
            return b""
        last = self._written[-1]
        if not (last == b" " or last[-1:].isalpha() or last[-1] >= 0x80):
            return b""
        before = self._written[:-1]
        crc = self._start_crc
        for piece in before:
            crc = crc32(piece, crc)
        word = self._choose(len(before), crc)
        return word[len(last) :] if word.startswith(last) else b""

    def _choose(self, index: int, crc: int) -> bytes:
        plan = _SENTENCES[_mix(self._salt ^ self._start_crc) % len(_SENTENCES)]
        slot = plan[index] if index < len(plan) else "."
        if slot in ".,":
            return slot.encode()
        words = self._classes.get(slot, (slot,))
        word = words[_mix(self._salt ^ (crc << 16) ^ index) % len(words)]
        if index == 0:
            word = word[0].upper() + word[1:]
            if self._at_marker:
                return word.encode()
        return b" " + word.encode()

    @property
    def unfinished(self) -> bytes:
        """The part of a character that the context ends with, if it is one of ours."""
        if not self._owed or self._owed[0] & 0xC0 != 0x80:
            return b""
        last = self._written[-1]
        return last[max(i for i, byte in enumerate(last) if byte >= 0xC0) :]

    def next(self) -> bytes:
        if self._owed:
            piece, self._owed = self._owed, b""
            self._written[-1] += piece
        else:
            piece = self._choose(len(self._written), self._crc)
            self._written.append(piece)
        self._crc = crc32(piece, self._crc)
        if piece == b".":
            self._start_crc, self._written, self._at_marker = self._crc, [], False
        return piece


def answer(
    model: str,
    context: bytes,
    max_tokens: int,
    *,
    seed: int | None = None,
    stop: tuple[str, ...] = (),
    ignore_eos: bool = False,
) -> Answer:
    """What ``model`` says after ``context``: the same for the same bytes, whatever engine asks.

    ``seed``: a sampling at temperature above 0; None is temperature 0. A chat answer ends by itself (finish reason
    ``stop``) after about 300 to 600 tokens, at a full stop, unless ``ignore_eos``; a text completion never does.
    ``stop`` strings end it earlier and are not part of the text. A character of several tokens comes with the last of
    them, also if the first ones are in the context; one that the maximum cuts does not come at all.
    """
    salt = _mix(crc32(model.encode()) ^ (0 if seed is None else _mix(seed + 1)))
    author = _Author(salt, context, _POLYGLOT_CLASSES if "polyglot" in model else _CLASSES)
    characters = getincrementaldecoder("utf-8")()
    characters.decode(author.unfinished)
    vocabulary = tokenizer()
    end_bytes = None if ignore_eos else _natural_end(salt, context)
    size = len(context)
    result = Answer()
    if end_bytes is not None and size >= end_bytes and context.endswith(b".") and max_tokens > 0:
        return Answer([0], [""], "stop")
    text = ""
    while len(result.ids) < max_tokens:
        piece, before = author.next(), len(result.ids)
        for token in vocabulary.encode(piece):
            result.ids.append(token)
            result.texts.append(characters.decode(vocabulary.decode((token,))))
        size += len(piece)
        if stop:
            text += "".join(result.texts[before:])
            if _cut_at_stop(result, text, stop):
                break
        if piece == b"." and end_bytes is not None and size >= end_bytes and len(result.ids) < max_tokens:
            result.ids.append(0)
            result.texts.append("")
            result.finish_reason = "stop"
            break
    del result.ids[max_tokens:], result.texts[max_tokens:]
    return result


def _natural_end(salt: int, context: bytes) -> int | None:
    """The length in bytes, context included, from which the answer ends at the next full stop. None: never."""
    marker = context.rfind(b"<|assistant|>")
    if marker < 0:
        return None
    start = marker + len(b"<|assistant|>")
    low, high = _ANSWER_BYTES
    return start + low + _mix(salt ^ crc32(context[:start])) % (high - low)


def _cut_at_stop(result: Answer, text: str, stop: tuple[str, ...]) -> bool:
    found = [(text.find(s), s) for s in stop if s in text]
    if not found:
        return False
    at, which = min(found)
    excess = len(text) - at
    for i in range(len(result.texts) - 1, -1, -1):
        if excess <= 0:
            break
        kept = max(0, len(result.texts[i]) - excess)
        excess -= len(result.texts[i]) - kept
        result.texts[i] = result.texts[i][:kept]
    result.finish_reason, result.stop_reason = "stop", which
    return True
