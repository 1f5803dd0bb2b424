"""Watches a server-sent event stream go by: where events end, when content starts, how the answer ended.

The bytes themselves are never changed. JSON is parsed only before the first content token and for the few events that
carry an ending, an error or a usage. Searching raw bytes is safe because inside a JSON string every quote is escaped
and no line break occurs: ``"finish_reason":"`` and a line that starts with ``data: [DONE]`` can only be structure,
never text of the model. Most events need no search at all: once an ordinary one was parsed, its bytes from
``"finish_reason":null`` on are known, and an event that ends in the very same bytes is ordinary too.

What real engines taught (vLLM, SGLang, llama.cpp): errors come inside 200 streams and are followed by ``[DONE]``;
a missing ``[DONE]`` need not be a failure; comments and role-only events are no progress.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any

import msgspec
import orjson

from router.core.types import Usage

#: An event larger than this is passed on in parts and no longer inspected.
EVENT_LIMIT_BYTES = 1024 * 1024

_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE_END = re.compile(rb"\r\n|\n|\r")


class StreamKind(Enum):
    """Which API the stream belongs to; each ends in its own way."""

    CHAT = "chat"  # /v1/chat/completions and /v1/completions
    RESPONSES = "responses"
    MESSAGES = "messages"
    OTHER = "other"  # judged by its framing alone


_MARKERS: dict[StreamKind, tuple[bytes, ...]] = {
    StreamKind.CHAT: (
        b'"finish_reason":"',
        b'"finish_reason": "',
        b'"usage"',
        b'"error"',
        b"[DONE]",
    ),
    StreamKind.RESPONSES: (b"response.completed", b"response.incomplete", b"response.failed", b'"error"'),
    StreamKind.MESSAGES: (b"message_start", b"message_delta", b"message_stop", b'"error"'),
    StreamKind.OTHER: (b'"error"',),
}

#: More tokens than this no answer has.
_COUNT_MAX = 1 << 40
#: Where the part of an ordinary event begins that all ordinary events of a stream have in common.
_UNFINISHED = re.compile(rb'"finish_reason": ?null')

#: No event ends so.
_NOT_KNOWN = b"\0"

_RESPONSES_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class StreamWatch:
    """Follows one stream. Feed it every body byte in order; forward what ``feed`` returns.

    started    a content token (or an ending) has been seen: the moment to commit
    error      the in-band error object of the engine, if one came; nothing from it on is returned by ``feed``
    usage      tokens as reported, or counted from the content events
    """

    __slots__ = (
        "_choices",
        "_finished",
        "_kind",
        "_markers",
        "_ordinary",
        "_sum_usage",
        "_tail",
        "_usage",
        "done",
        "error",
        "events",
        "started",
    )

    def __init__(self, kind: StreamKind, *, choices: int = 1, sum_usage: bool = False) -> None:
        self._kind = kind
        self._markers = _MARKERS[kind]
        self._choices = choices
        self._sum_usage = sum_usage  # llama.cpp: one usage per choice
        self._finished: set[int] = set()
        self._ordinary = _NOT_KNOWN  # how an event with nothing but content ends
        self._tail = b""
        self._usage: Usage | None = None
        self.started = False
        self.done = False
        self.error: dict[str, Any] | None = None
        self.events = 0

    def complete(self, *, framed: bool) -> bool:
        """Whether the answer is whole. ``framed``: the HTTP framing ended cleanly.

        A clean end with some choice finished will do: there are engines that ignore ``n``.
        """
        if self.error is not None:
            return False
        if self._kind is StreamKind.OTHER:
            return framed
        return self.done or len(self._finished) >= (1 if framed else self._choices)

    @property
    def usage(self) -> Usage:
        return self._usage or Usage(output_tokens=self.events)

    @property
    def tail(self) -> bytes:
        """The beginning of an event that is not whole yet."""
        return self._tail

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
        if lines != 2 and data.count(ordinary) * 2 != lines:
            return False
        self.events += lines >> 1
        return True

    def feed(self, data: bytes) -> bytes:
        """Take the next body bytes; return the whole events that may go on (a partial one is kept back)."""
        if self._tail or not data.endswith(b"\n\n"):
            data = self._assemble(data)
            if not data:
                return b""
        if self.passes(data):
            return data
        return self._search(data)

    def _search(self, data: bytes) -> bytes:
        if self.error is not None:
            return b""
        self.events += _data_lines(data)
        if self.started:
            for marker in self._markers:
                if marker in data:
                    return self._inspect(data)
            return data
        return self._inspect(data)

    def flush(self) -> bytes:
        """The stream has ended: what was kept back, which is no whole event."""
        tail, self._tail = self._tail, b""
        if not tail or self.error is not None:
            return b""
        self.events += _data_lines(tail)
        return self._inspect(tail)

    def _assemble(self, data: bytes) -> bytes:
        buffer = self._tail + data if self._tail else data
        cut = max((at + len(end) for end in _EVENT_ENDS if (at := buffer.rfind(end)) >= 0), default=0)
        if not cut:
            if len(buffer) <= EVENT_LIMIT_BYTES:
                self._tail = buffer
                return b""
            cut = len(buffer)
        self._tail = buffer[cut:]
        return buffer[:cut]

    def _inspect(self, data: bytes) -> bytes:
        start = 0
        plain = b"\r" not in data
        while start < len(data):
            if plain:
                end = data.find(b"\n\n", start) + 2
            else:
                match = _EVENT_END.search(data, start)
                end = match.end() if match else 0
            event = data[start : end if end >= 2 else len(data)]
            if not event.endswith(self._ordinary) or event.count(b"\n") != 2:
                self._event(event)
                if self.error is not None:
                    self.events -= _data_lines(data[start:])
                    return data[:start]
            start += len(event)
        return data

    def _event(self, event: bytes) -> None:
        if event.startswith(b"data:") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
            payload = event[5:-2].strip()
        else:
            payload = b"\n".join([line[5:].strip() for line in _LINE_END.split(event) if line.startswith(b"data:")])
        if not payload:
            return
        if payload.startswith(b"[DONE]"):
            self.done = self.done or self._kind is StreamKind.CHAT
            self.events -= 1
            return
        try:
            message = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return  # one malformed line passes through: the stream may well go on
        if isinstance(message, dict):
            ordinary = self._message(message)
            if ordinary and self._choices == 1 and (match := _UNFINISHED.search(event)) is not None:
                self._ordinary = event[match.start() :] if event.endswith(b"\n\n") else _NOT_KNOWN

    def _message(self, message: dict[str, Any]) -> bool:
        """Take in one event. Returns whether it was ordinary: content, and nothing that ends or counts it."""
        error = message.get("error")
        if error and not message.get("choices"):
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            self._ordinary = _NOT_KNOWN
            return False
        finished = len(self._finished)
        if self._kind is StreamKind.CHAT:
            content = self._chat(message)
        elif self._kind is StreamKind.RESPONSES:
            content = self._responses(message)
        elif self._kind is StreamKind.MESSAGES:
            content = self._messages(message)
        else:
            content = True
        if not content:
            self.events -= 1
            return False
        self.started = True
        return len(self._finished) == finished and not message.get("usage")

    def _chat(self, message: dict[str, Any]) -> bool:
        self._take_usage(message.get("usage"))
        choices = message.get("choices") or ()
        # Once it runs, every event is a token: half a character arrives as an empty text.
        content = self.started and bool(choices)
        for choice in choices:
            if not isinstance(choice, dict):
                continue
            if choice.get("finish_reason") is not None:
                self._finished.add(choice.get("index") or 0)
                self.started = True
            delta = choice.get("delta")
            if choice.get("text") or (isinstance(delta, dict) and any(v for k, v in delta.items() if k != "role")):
                content = True
        return content

    def _responses(self, message: dict[str, Any]) -> bool:
        kind = str(message.get("type"))
        if kind in _RESPONSES_ENDS:
            self.started = self.done = True
            response = message.get("response")
            if isinstance(response, dict):
                self._take_usage(response.get("usage"))
        return kind.endswith(".delta")

    def _messages(self, message: dict[str, Any]) -> bool:
        kind = message.get("type")
        if kind == "message_start":
            inner = message.get("message")
            self._take_usage(inner.get("usage") if isinstance(inner, dict) else None)
        elif kind == "message_delta":
            self._take_usage(message.get("usage"))
        elif kind == "message_stop":
            self.started = self.done = True
        return kind == "content_block_delta"

    def _take_usage(self, usage: object) -> None:
        read = read_usage(usage)
        if read is None:
            return
        last = self._usage
        if last is not None:
            if self._sum_usage:
                read.output_tokens += last.output_tokens
            read.prompt_tokens = read.prompt_tokens or last.prompt_tokens
            if read.cached_tokens is None:
                read.cached_tokens = last.cached_tokens
        self._usage = read


def _data_lines(data: bytes) -> int:
    """How many lines begin with ``data:``; inside the text of a model no line begins."""
    count = data.count(b"\ndata:") + data.startswith(b"data:")
    return count + data.count(b"\rdata:") if b"\r" in data else count


def read_usage(usage: object) -> Usage | None:
    """A ``usage`` object of OpenAI's APIs or of Anthropic's messages; None if it is neither."""
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    output = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    if prompt is None and output is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("cache_read_input_tokens")
    return Usage(prompt or 0, output or 0, _count(cached), True)


_Count = Annotated[int, msgspec.Meta(ge=0, le=_COUNT_MAX)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None


class _UsagePeek(msgspec.Struct):
    prompt_tokens: _Count = 0
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None


class _AnswerPeek(msgspec.Struct):
    usage: _UsagePeek | None = None


_answer_decoder = msgspec.json.Decoder(_AnswerPeek)
#: Up to here the whole answer is decoded, beyond it only the usage at its end.
_PEEK_BYTES = 4096


def usage_in(body: bytes) -> Usage | None:
    """What the usage in a whole answer (or in the end of one) tells, None if there is none."""
    if len(body) <= _PEEK_BYTES:
        try:
            usage = _answer_decoder.decode(body).usage
        except msgspec.MsgspecError:
            usage = None  # the end of an answer, or no usage of OpenAI's chat
        if usage is not None and usage.completion_tokens is not None:
            details = usage.prompt_tokens_details
            cached = details.cached_tokens if details is not None else None
            return Usage(usage.prompt_tokens, usage.completion_tokens, cached, True)
    at = body.rfind(b'"usage"')
    begin = body.find(b"{", at + 7) if at >= 0 else -1
    end, depth = begin, 0
    while begin >= 0:
        close = body.find(b"}", end) + 1
        if not close:
            return None
        depth += body.count(b"{", end, close) - 1
        end = close
        if depth <= 0:
            try:
                return read_usage(orjson.loads(body[begin:end]))
            except orjson.JSONDecodeError:
                return None
    return None


def _count(value: object) -> int | None:
    """A number of tokens as told; None if it cannot be one."""
    return value if isinstance(value, int) and 0 <= value <= _COUNT_MAX else None
