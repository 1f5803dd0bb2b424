"""Watches a server-sent event stream go by: when content starts, how the answer ends, what it cost.

The bytes of the engine go on as they came; only a usage that nobody asked for is taken out. JSON is parsed only before
the first content token and for the few events that carry an ending, an error or a usage. Searching raw bytes is safe
because inside a JSON string every quote is escaped and no line break occurs: ``"finish_reason":"`` and a line that
starts with ``data: [DONE]`` can only be structure, never text of the model. Most events need no search at all: once an
ordinary one was parsed, its bytes from ``"finish_reason":null`` on are known, and an event that ends in the very same
bytes is ordinary too. Every event of a chat has ``choices``: one that lacks them is parsed, for it may be an error.

Taught by real engines (vLLM, SGLang, llama.cpp): errors come inside 200 streams and are followed by ``[DONE]``;
a missing ``[DONE]`` need not be a failure; comments and role-only events are not progress.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from router.core.endings import as_error, error_in, failed_finish, is_finish
from router.core.framing import BOM, ERROR, count_data_lines, end_of_events, end_of_run, events_of, fields_of
from router.core.leniency import is_json, loads
from router.core.long_events import LongEvent
from router.core.types import Usage
from router.core.usage import merged, read_usage

#: An event larger than this is passed on in parts, and judged by its two ends.
EVENT_LIMIT_BYTES = 1024 * 1024


class StreamKind(Enum):
    """Which API the stream belongs to; each ends in its own way."""

    CHAT = "chat"  # /v1/chat/completions and /v1/completions
    RESPONSES = "responses"
    MESSAGES = "messages"
    OTHER = "other"  # judged by its framing alone


_DONE = b"[DONE]"
_SAYS_DONE = re.compile(rb"data: ?\[DONE\]\s*")
#: Of every error, whatever its shape, one of these is part.
_ERRORS = (b"error", b'"detail"', _DONE)
_MARKERS: dict[StreamKind, tuple[bytes, ...]] = {
    StreamKind.CHAT: (b'"usage"', *_ERRORS),
    StreamKind.RESPONSES: (
        b"response.completed",
        b"response.incomplete",
        b"response.failed",
        b"response.cancelled",
        *_ERRORS,
    ),
    StreamKind.MESSAGES: (b"message_start", b"message_delta", b"message_stop", *_ERRORS),
    StreamKind.OTHER: _ERRORS,
}

#: A finish reason that is a word or, in SGLang's own API, an object. JSON may have white space around its colons.
_FINISH = re.compile(rb'"finish_reason"[ \t\r\n]*:[ \t\r\n]*["{]')
#: Where the part of an ordinary event begins that all ordinary events of a stream have in common.
_UNFINISHED = re.compile(rb'"finish_reason": ?(?:null|"")')
#: A usage with the comma before it, or the one after it.
_OBJECT = rb'\{(?:[^{}"]|"(?:[^"\\]|\\.)*+"|\{(?:[^{}"]|"(?:[^"\\]|\\.)*+")*+\})*+\}'
_USAGE = re.compile(rb',\s*+"usage"\s*+:\s*+' + _OBJECT + rb'|"usage"\s*+:\s*+' + _OBJECT + rb"\s*+,\s*+")
#: No event ends so.
_NOT_KNOWN = b"\0"
#: How often a run of ordinary events is looked for in one piece: each look costs time that grows with the piece.
_RUNS_MAX = 3

_FAILED_RESPONSES = frozenset({"response.failed", "response.cancelled"})
_ENDED_RESPONSES = frozenset({"response.completed", "response.incomplete"})
#: Members of an event that hold no content.
_NO_CONTENT = frozenset({"id", "object", "created", "model", "usage", "type"})


class StreamWatch:
    """Follows one stream. Feed it every body byte in order; forward what ``feed`` returns.

    choices    how many choices the whole answer has; ``prompts`` of them at least (some engines ignore ``n``)
    hides_usage   the client has not asked for a usage and is shown none

    started    a content token (or a good ending) has been seen: the moment to commit
    done       the engine has said that nothing more comes
    error      the in-band error object of the engine, if one came; nothing from it on is returned by ``feed``
    usage      tokens as reported, or counted from the content events
    """

    __slots__ = (
        "_begun",
        "_choices",
        "_ended",
        "_finished",
        "_hides_usage",
        "_kind",
        "_long",
        "_markers",
        "_ordinary",
        "_prompts",
        "_sum_usage",
        "_tail",
        "_usage",
        "done",
        "error",
        "events",
        "started",
    )

    def __init__(
        self,
        kind: StreamKind,
        *,
        choices: int = 1,
        prompts: int = 1,
        sum_usage: bool = False,
        hides_usage: bool = False,
    ) -> None:
        self._kind = kind
        self._markers = _MARKERS[kind]
        self._choices = choices if kind is StreamKind.CHAT else 1
        self._prompts = prompts
        self._sum_usage = sum_usage  # llama.cpp: one usage per choice
        self._hides_usage = hides_usage
        self._begun: set[int] = set()  # choices seen; complete only where there may be several
        self._finished: set[int] = set()
        self._ended = False  # the API's own last event has come
        self._ordinary = _NOT_KNOWN  # how an event with nothing but content ends
        self._tail = b""
        self._long: LongEvent | None = None  # of which parts have gone on
        self._usage: Usage | None = None
        self.started = False
        self.done = False
        self.error: dict[str, Any] | None = None
        self.events = 0

    def complete(self, *, framed: bool) -> bool:
        """Whether the answer is whole. ``framed``: the HTTP framing ended cleanly.

        Without a clean end and without ``[DONE]`` every choice must have finished. With one, those must have that have
        begun, and one for each prompt: there are engines that ignore ``n``, and some that never tell a reason.
        """
        if self.error is not None or not self.started:
            return False
        if self._kind is StreamKind.OTHER:
            return framed or self.done
        if self._kind is not StreamKind.CHAT:
            return self._ended
        finished = len(self._finished)
        if finished >= self._choices:
            return True
        if not finished:
            return self.done and len(self._begun) >= self._prompts
        return (framed or self.done) and finished >= self._prompts and self._begun <= self._finished

    @property
    def usage(self) -> Usage:
        return self._usage or Usage(output_tokens=self.events)

    @property
    def tail(self) -> bytes:
        """The beginning of an event that is not whole yet."""
        return self._tail

    @property
    def in_event(self) -> bool:
        """A part of an event that is too long to be held has gone on."""
        return self._long is not None

    @property
    def held_bytes(self) -> int:
        return len(self._tail)

    def passes(self, data: bytes) -> bool:
        """Whether ``data`` is nothing but whole ordinary events. Then they are counted, all of it may go on, and
        ``feed`` is not to be asked."""
        ordinary = self._ordinary
        if self._tail or not data.endswith(ordinary) or b"\r" in data:  # whoever mixes line ends is searched
            return False
        lines = data.count(b"\n")  # two for each event, the empty one counted
        if lines == 2:
            self.events += 1
            return True
        if data.count(ordinary) * 2 != lines:
            return False
        self.events += lines >> 1
        return True

    def feed(self, data: bytes) -> bytes:
        """Take the next body bytes; return the whole events that may go on (a partial one is kept back)."""
        if self._long is not None:
            return self._pass_part(self._long, data)
        if self._tail or not data.endswith(b"\n\n"):
            data = self._assemble(data)
            if not data or self._long is not None:
                return data
        if self.passes(data):
            return data
        return self._search(data)

    def flush(self) -> bytes:
        """Return the incomplete event that was held back when the stream ended."""
        tail, self._tail = self._tail, b""
        return self._search(tail) if tail else b""

    def _search(self, data: bytes) -> bytes:
        if self.error is not None:
            return b""
        if self.done:
            return data
        lines = count_data_lines(data)
        self.events += lines
        runs = self.started and (self._choices == 1 or len(self._begun) >= self._choices)
        return data if runs and not self._says_more(data, lines) else self._inspect(data)

    def _says_more(self, data: bytes, lines: int) -> bool:
        """Whether something in these events may end, count or break the answer."""
        for marker in self._markers:
            if marker in data:
                return True
        return self._kind is StreamKind.CHAT and (data.count(b'"choices"') < lines or _FINISH.search(data) is not None)

    def _assemble(self, data: bytes) -> bytes:
        buffer = self._tail + data if self._tail else data
        cut = end_of_events(buffer, len(buffer) - len(data))
        if not cut:
            if _SAYS_DONE.fullmatch(buffer) is not None:  # the empty line behind it may never come
                self._tail = b""
                return buffer
            if len(buffer) <= EVENT_LIMIT_BYTES:
                self._tail = buffer
                return b""
            self._tail = b""
            if self.error is None and not self.done:
                self._long = LongEvent(buffer)
            return buffer
        self._tail = buffer[cut:]
        return buffer[:cut]

    def _pass_part(self, event: LongEvent, data: bytes) -> bytes:
        """More of an event of which parts have gone on; perhaps its end, and others."""
        behind = event.take(data)
        if not behind:
            return data
        self._long = None
        self.events += 1
        self._message(event.summary())
        if self.error is not None or behind == len(data):
            return data[:behind]
        return data[:behind] + self.feed(data[behind:])

    def _inspect(self, data: bytes) -> bytes:
        out: list[bytes] = []
        copied = 0
        for event, start in self._extraordinary(data):
            if self.done:
                self.events -= count_data_lines(data[start:])
                break
            shown = self._event(event)
            if self.error is not None:
                self.events -= count_data_lines(data[start:])
                data = data[:start]
                break
            if shown is not event:
                out += (data[copied:start], shown)
                copied = start + len(event)
        return b"".join((*out, data[copied:])) if out else data

    def _extraordinary(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """The events that are to be read, each with its place; those behind one that makes others ordinary are judged
        by it. Runs of ordinary events are passed over at once."""
        start = 0
        for more in range(_RUNS_MAX, -1, -1):
            ordinary = self._ordinary
            start = end_of_run(data, start, ordinary)
            for event in events_of(data, start):
                if self.done or not event.endswith(ordinary) or event.count(b"\n") != 2:
                    yield event, start
                start += len(event)
                if self._ordinary != ordinary:
                    ordinary = self._ordinary
                    if more:  # perhaps all that follow are ordinary
                        break
            else:
                return

    def _event(self, event: bytes) -> bytes:
        """Take in one event. Returns what of it the client gets: nearly always the event itself."""
        name = b""
        if event.startswith(b"data:") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
            payloads = [event[5:-2].strip()]
        else:
            if not self.started and event.startswith(BOM):
                event_text = event.removeprefix(BOM)
                self.events += count_data_lines(event_text) - count_data_lines(event)
            else:
                event_text = event
            name, lines = fields_of(event_text)
            payloads = _payloads_of(lines)
        shown = event
        for payload in payloads:
            if payload and self._payload(name, payload, event):
                shown = b"" if len(payloads) == 1 and self._is_all_usage(payload) else _without_usage(event)
        return shown

    def _payload(self, name: bytes, payload: bytes, event: bytes) -> bool:
        """Returns whether it holds a usage that is to be hidden."""
        if payload == _DONE:
            self.done = True
            self.events -= 1
            return False
        try:
            message = loads(payload)
        except ValueError:
            if name == ERROR:
                self._fail(as_error(payload.decode("utf-8", "replace")))
            elif self._kind is StreamKind.OTHER:
                self.started = True
            return False  # one malformed line passes through: the stream may well go on
        if name == ERROR:
            self._fail(as_error(message))
        elif isinstance(message, dict):
            ordinary = self._message(message)
            if ordinary and self._choices == 1 and (match := _UNFINISHED.search(event)) is not None:
                self._ordinary = event[match.start() :] if event.endswith(b"\n\n") else _NOT_KNOWN
            return self._hides_usage and bool(message.get("usage"))
        elif message is not None and self._kind is StreamKind.OTHER:
            self.started = True
        return False

    def _fail(self, error: dict[str, Any]) -> None:
        self.error = error
        self._ordinary = _NOT_KNOWN

    @staticmethod
    def _is_all_usage(payload: bytes) -> bool:
        return not loads(payload).get("choices")

    def _message(self, message: dict[str, Any]) -> bool:
        """Take in one event. Returns whether it was ordinary: content, and nothing that ends or counts it."""
        finished = len(self._finished)
        if self._kind is StreamKind.CHAT or isinstance(message.get("choices"), list):
            content = self._chat(message)
        else:
            error = error_in(message)
            if error is not None:
                self._fail(error)
                return False
            if self._kind is StreamKind.RESPONSES:
                content = self._responses(message)
            elif self._kind is StreamKind.MESSAGES:
                content = self._messages(message)
            else:
                content = any(value for name, value in message.items() if name not in _NO_CONTENT)
        if self.error is not None:
            return False
        if not content:
            self.events -= 1
            return False
        self.started = True
        return len(self._finished) == finished and not message.get("usage")

    def _chat(self, message: dict[str, Any]) -> bool:
        choices = message.get("choices")
        if not choices or not isinstance(choices, list):
            if (error := error_in(message)) is not None:
                self._fail(error)
            else:
                self._take_usage(message.get("usage"))
            return False
        self._take_usage(message.get("usage"))
        # Once it runs, every event is a token: half a character arrives as an empty text.
        content, ended = self.started, False
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            index = choice.get("index")
            index = index if isinstance(index, int) else 0
            self._begun.add(index)
            reason = choice.get("finish_reason")
            end = None if reason is None else is_finish(reason)
            if end is False or choice.get("error"):  # OpenRouter's choices may each have an error
                self._fail(as_error(message.get("error") or choice.get("error") or failed_finish(reason)))
                return False
            if end:
                self._finished.add(index)
                self.started = ended = True
            delta = choice.get("delta") or choice.get("message")
            if choice.get("text") or (isinstance(delta, dict) and any(v for k, v in delta.items() if k != "role")):
                content = True
        if message.get("error") and not (ended or content):
            self._fail(as_error(message["error"]))
            return False
        return content

    def _responses(self, message: dict[str, Any]) -> bool:
        kind = str(message.get("type"))
        if kind not in _ENDED_RESPONSES and kind not in _FAILED_RESPONSES:
            return kind.endswith(".delta")
        response = message.get("response")
        response = response if isinstance(response, dict) else {}
        details = response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        if kind in _FAILED_RESPONSES or response.get("error"):
            self._fail(as_error(response.get("error") or {"message": f"The engine says {kind}."}))
        elif is_finish(reason) is False:
            self._fail(failed_finish(reason))
        else:
            self.started = self.done = self._ended = True
            self._take_usage(response.get("usage"))
        return False

    def _messages(self, message: dict[str, Any]) -> bool:
        kind = message.get("type")
        if kind == "message_start":
            inner = message.get("message")
            self._take_usage(inner.get("usage") if isinstance(inner, dict) else None)
        elif kind == "message_delta":
            self._take_usage(message.get("usage"))
            delta = message.get("delta")
            reason = delta.get("stop_reason") if isinstance(delta, dict) else None
            end = is_finish(reason)
            if end is False:
                self._fail(failed_finish(reason))
            self.started = self.started or end is True
        elif kind == "message_stop":
            self.done = True
            self._ended = self.started
        return kind == "content_block_delta"

    def _take_usage(self, usage: object) -> None:
        read = read_usage(usage)
        if read is not None:
            self._usage = merged(self._usage, read, add_output=self._sum_usage)


def _payloads_of(lines: list[bytes]) -> list[bytes]:
    """The data of one event. Lines that make no JSON together but do alone are events of a server that forgets the
    empty line between them."""
    joined = b"\n".join(lines).strip()
    if len(lines) < 2 or is_json(joined):
        return [joined]
    apart = [line.strip() for line in lines]
    return apart if all(not line or line == _DONE or is_json(line) for line in apart) else [joined]


def _without_usage(event: bytes) -> bytes:
    """The event without its member ``usage``. One that holds the word more than once is left as it is."""
    return _USAGE.sub(b"", event) if event.count(b'"usage"') == 1 else event
