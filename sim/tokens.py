"""The simulated models' tokeniser: every text has exactly one tokenisation, and ids turn back into exactly that text.

Three layers, tried in this order for each piece of the text: special markers and the author's own words (with
their leading space) are one token; other letters go in threes; anything else is one token per byte, so that a
character of several bytes may be several tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product
from string import ascii_lowercase

SPECIALS = ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")

_BYTES_AT = len(SPECIALS)
_TRIPLES_AT = _BYTES_AT + 256
_WORDS_AT = _TRIPLES_AT + 26**3

_PIECE = re.compile(rb"<\|(?:end|system|user|assistant|tool)\|>| ?[A-Za-z]+| ?[\x80-\xff]+|[^A-Za-z]", re.DOTALL)
_THREES = re.compile(rb"[a-z]{3}|.", re.DOTALL)


def pieces(text: bytes) -> list[bytes]:
    """Markers, words of letters or of other scripts with their leading space, and single bytes. Joined: ``text``."""
    return _PIECE.findall(text)


def word_forms(word: str) -> tuple[str, str, str, str]:
    """The ways a word stands in a text: within a sentence and at its start, with and without a space before it."""
    capital = word[0].upper() + word[1:]
    return (f" {word}", f" {capital}", word, capital)


class Tokenizer:
    """Text to ids and back. ``words`` become single tokens; the order fixes their ids."""

    def __init__(self, words: Iterable[str]) -> None:
        forms = dict.fromkeys(form.encode() for word in words for form in word_forms(word))
        self._decode: list[bytes] = [s.encode() for s in SPECIALS]
        self._decode += [bytes([b]) for b in range(256)]
        self._decode += ["".join(t).encode() for t in product(ascii_lowercase, repeat=3)]
        self._whole = {s.encode(): i for i, s in enumerate(SPECIALS)}
        for form in forms:
            self._whole[form] = len(self._decode)
            self._decode.append(form)

    @property
    def size(self) -> int:
        """How many ids there are; every id below is valid."""
        return len(self._decode)

    def encode(self, text: bytes) -> list[int]:
        ids: list[int] = []
        whole = self._whole
        for piece in _PIECE.findall(text):
            token = whole.get(piece)
            if token is not None:
                ids.append(token)
            elif len(piece) == 1:
                ids.append(_BYTES_AT + piece[0])
            else:
                ids.extend(self._split(piece))
        return ids

    def _split(self, piece: bytes) -> list[int]:
        ids = []
        for part in _THREES.findall(piece):
            if len(part) == 1:
                ids.append(_BYTES_AT + part[0])
            else:
                a, b, c = part
                ids.append(_TRIPLES_AT + (a - 97) * 676 + (b - 97) * 26 + (c - 97))
        return ids

    def decode(self, ids: Sequence[int]) -> bytes:
        """Raises IndexError for an id outside the vocabulary."""
        table = self._decode
        if ids and min(ids) < 0:
            raise IndexError(min(ids))
        return b"".join([table[i] for i in ids])
