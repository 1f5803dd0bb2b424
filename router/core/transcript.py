"""The part of a streamed chat or completion that its client has received, kept so that another backend can go on.

Keeping must cost next to nothing: chunks are collected, and handed over some dozens at a time. Most events of a stream
differ in their text alone; the bytes around it are its *frame*. Where all events in a batch have the known frame, the
text is cut out of the batch without reading any of its JSON but the text.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import orjson

from router.core.endings import is_finish
from router.core.framing import BOM, events_of, fields_of
from router.core.leniency import loads

#: Longer texts are not kept: their streams end when their backend does.
TEXT_BYTES_MAX = 64 * 1024

_TEXT = re.compile(rb'"(?:content|text)"[ \t]*:[ \t]*"((?:[^"\\]|\\.)*)"')
_REASONING = frozenset({"reasoning", "reasoning_content", "reasoning_details", "thinking"})
_TOOLS = frozenset({"tool_calls", "function_call"})
#: Members that every event of a stream has in common.
COMMON = ("id", "object", "created", "model", "system_fingerprint")
_DONE = b"[DONE]"
#: Of the end of an event and of the beginning of the next one: as many tell them apart from all that is in a text.
_MEET_BYTES = 8
#: How often a run of events with one frame is looked for in a batch: each look costs time that grows with the batch.
_RUNS_MAX = 3


class Frame(NamedTuple):
    """The bytes of an event before and after its text."""

    before: bytes
    after: bytes

    def texts(self, data: bytes) -> list[bytes] | None:
        """The texts of these events, as they stand in JSON. None: not all of them have this frame.

        Searching for long bytes is slow: the events are parted at the few bytes where two of them meet, and what was
        cut off is compared in one go.
        """
        before, after = self
        if not (len(before) > _MEET_BYTES < len(after) and data.startswith(before) and data.endswith(after)):
            return None
        meet = after[-_MEET_BYTES:] + before[:_MEET_BYTES]
        begin, end = len(before) - _MEET_BYTES, _MEET_BYTES - len(after)
        found = [piece[begin:end] for piece in data[_MEET_BYTES:-_MEET_BYTES].split(meet)]
        return found if b"%b%b%b" % (before, (after + before).join(found), after) == data else None

    def around(self, text: str) -> bytes:
        return b"%b%b%b" % (self.before, escaped(text), self.after)


def escaped(text: str) -> bytes:
    """As it stands in JSON between two quotes."""
    try:
        return orjson.dumps(text)[1:-1]
    except TypeError:  # half of a surrogate pair, whose other half may be in the next event
        return json.dumps(text)[1:-1].encode()


def framed(event: bytes) -> tuple[Frame, bytes] | None:
    """The frame of an event that has one text, and the text as it stands in JSON."""
    if not event.startswith(b"data:") or not event.endswith(b"}\n\n") or event.count(b"\n") != 2:
        return None
    match = _TEXT.search(event)
    if match is None or _TEXT.search(event, match.end()) is not None:
        return None
    return Frame(event[: match.start(1)], event[match.end(1) :]), match[1]


def message_of(event: bytes) -> dict[str, Any] | None:
    """The JSON object of an event; None if it holds nothing, is the end mark, or cannot be read."""
    event = event.removeprefix(BOM)
    lines = [event[5:].strip()] if event.startswith(b"data:") and event.count(b"\n") == 2 else fields_of(event)[1]
    payload = b"\n".join(lines).strip()
    if not payload or payload == _DONE:
        return None
    try:
        message = loads(payload)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def last_event(data: bytes) -> bytes:
    """An event that lacks the empty line behind it, with one. Nothing, if a part of it is missing."""
    return b"" if not data or message_of(data) == {} else data.rstrip(b"\r\n") + b"\n\n"


class Transcript:
    """Hand ``add`` all bytes that the client is sent, in whole events. ``engine``: the kind of the first.

    Texts are kept as they stand in JSON: there are servers that send the two halves of a character in two events.

    events     that hold content: tokens, as far as can be told
    sample     a message with text, for the shape of those that the router must write itself
    odd        something was sent that cannot be continued, in a word; empty if not
    """

    __slots__ = (
        "_blank",
        "_size",
        "_texts",
        "counted",
        "engine",
        "events",
        "finished",
        "frame",
        "odd",
        "sample",
    )

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self._texts: list[bytes] = []
        self._size = 0  # of the texts
        self._blank: list[str] = []  # texts of the latest events that add nothing but white space, or nothing
        self.events = 0
        self.counted = 0  # the length of the text when an engine last counted its tokens
        self.finished = False
        self.frame: Frame | None = None
        self.sample: dict[str, Any] | None = None
        self.odd = ""

    @property
    def text(self) -> str:
        """Everything that was said."""
        self._texts = [b"".join(self._texts)]
        text = text_of(self._texts[0])
        if text is None:
            self.odd = self.odd or "half_character"
        return text or ""

    @property
    def size(self) -> int:
        """How long the text is as it stands in JSON."""
        return self._size

    def latest(self, most: int) -> bytes:
        """The end of the text as it stands in JSON, of at most this length."""
        found: list[bytes] = []
        size = 0
        for piece in reversed(self._texts):
            found.append(piece)
            size += len(piece)
            if size >= most:
                break
        return b"".join(reversed(found))[-most:]

    @property
    def common(self) -> dict[str, Any]:
        """Members that the first event had, and that all others must have."""
        sample = self.sample or {}
        return {name: sample[name] for name in COMMON if name in sample}

    def add(self, data: bytes) -> None:
        """The client is sent these events."""
        at = 0
        for more in range(_RUNS_MAX, -1, -1):
            if self.odd or at == len(data):
                return
            at = self._run(data, at)
            frame = self.frame
            for event in events_of(data, at):
                at += len(event)
                if not self._event(event) or (more and self.frame != frame):  # perhaps all that follow have the new one
                    break

    def _run(self, data: bytes, start: int) -> int:
        """Keep the events from ``start`` to the last that has the frame, if all of them have it. Returns where the next
        event begins."""
        frame = self.frame
        if frame is None:
            return start
        end = data.rfind(frame.after, start) + len(frame.after)
        pieces = frame.texts(data[start:end])
        if pieces is None:
            return start
        inside = b"".join(pieces)
        if text_of(inside) is None:
            return start
        self.events += len(pieces)
        self._add(inside)
        self._note_blank(pieces)
        return end

    def forget_unsaid(self) -> None:
        """The latest tokens that have added no character will come again: half a character, or what may be the
        beginning of a stop string."""
        while self._blank and not self._blank[-1]:
            self._blank.pop()
            self.events -= 1

    def recount(self, tokens: int) -> None:
        """An engine says that everything that was said is this many tokens."""
        self.events = tokens
        self._blank = [text for text in self._blank if text]

    @property
    def blank_events(self) -> int:
        """The latest events that have added white space alone."""
        return len(self._blank)

    def _add(self, inside: bytes) -> None:
        self._texts.append(inside)
        self._size += len(inside)
        if self._size > TEXT_BYTES_MAX:
            self.odd = "too_long"
            self._texts.clear()

    def _note_blank(self, pieces: list[bytes]) -> None:
        """``pieces`` are JSON, without its quotes."""
        blank: list[str] = []
        for piece in reversed(pieces):
            text = text_of(piece)
            if text is None or text.strip():
                self._blank = blank[::-1]
                return
            blank.append(text)
        self._blank += blank[::-1]

    def _event(self, event: bytes) -> bool:
        """Keep one event. Returns whether the answer can be continued behind it."""
        message = message_of(event)
        if message is not None:
            choices = message.get("choices")
            if not isinstance(choices, list):
                self.odd = "odd_answer"
            elif choices:  # else a usage
                self._choice(message, choices, event)
        return not self.odd

    def _choice(self, message: dict[str, Any], choices: list[Any], event: bytes) -> None:
        choice = choices[0]
        if len(choices) > 1 or not isinstance(choice, dict) or choice.get("index", 0) != 0:
            self.odd = "several_choices"
            return
        if choice.get("logprobs") is not None:
            self.odd = "logprobs"
        text = self._say(choice)
        end = is_finish(choice.get("finish_reason"))
        self.finished = self.finished or end is True
        if text or (self.sample is not None and not end):
            self.events += 1
            found = framed(event)
            self._add(escaped(text) if found is None else found[1])
            self._blank = [*self._blank, text] if not text.strip() else []
        if text and end is None:
            self.sample = self.sample or message
            if found is not None and not message.get("usage"):  # its numbers are of this one event
                self.frame = found[0]

    def _say(self, choice: dict[str, Any]) -> str:
        """The text of a choice. Notes what else is in it."""
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            text = choice.get("text")
            return text if isinstance(text, str) else ""
        for name, value in delta.items():
            if name in ("role", "content") or not value:
                continue
            word = "reasoning" if name in _REASONING else "tool_calls" if name in _TOOLS else "odd_answer"
            self.odd = self.odd or word
        text = delta.get("content")
        return text if isinstance(text, str) else ""


def with_halves(inside: bytes) -> str | None:
    """The text that stands between two quotes in JSON, with half characters as they are."""
    try:
        text = json.loads(b'"%b"' % inside)
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def text_of(inside: bytes) -> str | None:
    """The text that stands between two quotes in JSON; None if it does not end there."""
    try:
        text = orjson.loads(b'"%b"' % inside)
    except orjson.JSONDecodeError:
        return None
    return text if isinstance(text, str) else None
