"""Notices a stream whose text repeats itself, as a model does that has lost its way and would go on up to its limit.

Only what is exact counts: the end of the text is three or more copies of one piece, to the byte, and they fill a
window. Counting, tables, records and code repeat their form and not their bytes. A piece that is made of a few
characters (zeros, dashes, blanks, the ``A`` of base64) may be meant, so it has to go on for twice as long.

Text is taken for what it means, in UTF-8, however it is escaped in JSON: a robot that is written ``\\ud83e\\udd16`` is
one character, as it is for others. It is looked at each time that half a kilobyte has come. The last 32 bytes are
searched for before the end. Their distance is the length of the piece, if the text is the same that much farther back.
All of it is done by searching, slicing and comparing bytes, in C: some microseconds for a hundred tokens.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from msgspec import field

from router.core.framing import events_of
from router.core.transcript import Transcript, message_of
from router.core.types import Value

COPIES = 3
#: The longest piece: some 600 tokens, of four to seven bytes.
PERIOD_BYTES_MAX = 4096
#: How much of the text all copies together must be; and if the piece has fewer different bytes than ``VARIED``.
WINDOW_BYTES = 3072
WINDOW_PLAIN_BYTES = 2 * WINDOW_BYTES
VARIED = 8
KEPT_BYTES = COPIES * PERIOD_BYTES_MAX
STEP_BYTES = 512
#: Events of this length have about as much text.
_STEP_OF_EVENTS = 32 * STEP_BYTES

_TEXT = rb'([^"\\]*+(?:\\.[^"\\]*+)*+)"'
_SAID = re.compile(rb'"(?:content|text|reasoning_content|reasoning)"[ \t]*:[ \t]*"' + _TEXT)
#: A text in escapes may be this much longer than in UTF-8.
_ESCAPES_LONGER = 3
#: Where an escape or a plain character begins, in a text that was cut anywhere.
_BOUNDARY = re.compile(rb'[^\\](?=\\)|(?=[^\\"/bfnrtuA-Fa-f0-9])')
#: The first half of a pair at the end, whose other half is to come.
_HALF = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_scan = json.JSONDecoder(strict=False).decode
#: How many bytes of the end are searched for, and how often. A piece with a repetition inside deceives a short
#: search.
_NEEDLES = ((32, 4), (512, 8))


class LoopGuard(Value, eq=False):
    """Follows one answer, however many backends it comes from. Holds ``KEPT_BYTES`` and a little more at most, and
    nothing of a text that a transcript keeps and that has no escapes.

    period_bytes   how long the piece is that the text repeats; 0: it does not
    sample         an event from then, for the shape of those that the router must write itself
    """

    period_bytes: int = 0
    sample: dict[str, Any] | None = None
    _text: bytes = b""
    _parts: list[bytes] = field(default_factory=list)  # that have come since
    _fresh: int = 0  # bytes of them; of events, where a transcript keeps the text
    _at: int = 0  # how much of the text of the transcript was taken
    _behind: re.Pattern[bytes] | None = None  # finds the texts in events

    def add(self, events: bytes, transcript: Transcript | None = None) -> None:
        """The client is sent these whole events, which are in its transcript, if there is one."""
        if transcript is not None and not transcript.odd:
            self._fresh += len(events)
            if self._fresh < _STEP_OF_EVENTS:
                return
            text = self._end_of(transcript)
        else:
            said = self._said(events)
            self._parts.append(said)
            self._fresh += len(said)
            if self._fresh < STEP_BYTES:
                return
            text = self._take(b"".join(self._parts))
        self._fresh = 0
        self.period_bytes = period_of(text)
        if self.period_bytes:
            self.sample = _sample(events)

    def _end_of(self, transcript: Transcript) -> bytes:
        """The end of a text that a transcript has. Only one with escapes is kept here, too."""
        if self._at:
            new = transcript.size - self._at
            inside = b"".join([*self._parts, transcript.latest(new) if new > 0 else b""])
        else:
            inside = transcript.latest(KEPT_BYTES)
            if b"\\" not in inside:
                return inside
            inside = transcript.latest(_ESCAPES_LONGER * KEPT_BYTES)
            begin = _BOUNDARY.search(inside) if transcript.size > len(inside) else None
            inside = inside if begin is None else inside[begin.end() :]
        self._at = transcript.size
        return self._take(inside)

    def _take(self, inside: bytes) -> bytes:
        """Add what has come. Returns the end of the text."""
        half = _HALF.search(inside, max(0, len(inside) - 6))
        cut = len(inside) if half is None else half.start()
        self._text = (self._text + _meant(inside[:cut]))[-KEPT_BYTES:]
        self._parts = [] if half is None else [inside[cut:]]
        return self._text

    def _said(self, events: bytes) -> bytes:
        said = b"".join(self._behind.findall(events)) if self._behind is not None else b""
        if said:
            return said
        matches = list(_SAID.finditer(events))
        last = next((match for match in reversed(matches) if match[1]), None)
        self._behind = _texts_behind(events[last.start() : last.start(1)]) if last is not None else None
        return b"".join([match[1] for match in matches])


def _meant(inside: bytes) -> bytes:
    """The text that stands between two quotes of JSON."""
    if b"\\" not in inside:
        return inside
    try:
        return str(_scan(f'"{inside.decode(errors="replace")}"')).encode(errors="surrogatepass")
    except ValueError:
        return inside


@lru_cache(maxsize=64)
def _texts_behind(member: bytes) -> re.Pattern[bytes]:
    """Finds the texts of one member. A pattern that begins with many fixed bytes is found sooner."""
    return re.compile(re.escape(member) + _TEXT)


def _sample(events: bytes) -> dict[str, Any] | None:
    """The last of these events that holds a choice."""
    for event in reversed(list(events_of(events))):
        message = message_of(event)
        choices = message.get("choices") if message else None
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            return message
    return None


def period_of(text: bytes) -> int:
    """How long the piece is that the end of the text repeats; 0: it repeats none, or not for long enough."""
    if len(text) < WINDOW_BYTES:
        return 0
    back = text[: -PERIOD_BYTES_MAX - _NEEDLES[-1][0] - 1 : -1]  # only a search forwards is quick whatever it meets
    for length, finds in _NEEDLES:
        needle, period = back[:length], 0
        for _ in range(finds):
            period = back.find(needle, period + 1, PERIOD_BYTES_MAX + length)
            if period < 0:
                return 0
            if _repeats(text, period):
                return period
    return 0


def _repeats(text: bytes, period: int) -> bool:
    if not _is_copied(text, period, max(COPIES * period, WINDOW_BYTES)):
        return False
    return len(set(text[-period:])) >= VARIED or _is_copied(text, period, WINDOW_PLAIN_BYTES)


def _is_copied(text: bytes, period: int, span: int) -> bool:
    """The last ``span`` bytes are copies of the last ``period``."""
    return span <= len(text) and text[-span:-period] == text[len(text) - span + period :]
