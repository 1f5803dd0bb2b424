"""Watches a server-sent event stream go by: where events end, when content starts, how the answer ended.

The bytes themselves are never changed. A chunk costs a handful of substring searches; JSON is parsed only before
the first content token and for the few events that carry an ending, an error or a usage. Searching raw bytes is
safe because inside a JSON string every quote is escaped and no line break occurs: ``"finish_reason":"`` and a line
that starts with ``data: [DONE]`` can only be structure, never text of the model.

What real engines taught (vLLM, SGLang, llama.cpp): errors come inside 200 streams and are followed by ``[DONE]``;
a missing ``[DONE]`` need not be a failure; comments and role-only events are no progress.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Any

import orjson

from router.core.types import Usage

#: An event larger than this is passed on in parts and no longer inspected.
EVENT_LIMIT_BYTES = 1024 * 1024

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
        b"data: [DONE]",
        b"data:[DONE]",
    ),
    StreamKind.RESPONSES: (b"response.completed", b"response.incomplete", b"response.failed", b'"error"'),
    StreamKind.MESSAGES: (b"message_start", b"message_delta", b"message_stop", b'"error"'),
    StreamKind.OTHER: (),
}

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
    def held_bytes(self) -> int:
        return len(self._tail)

    def feed(self, data: bytes) -> bytes:
        """Take the next body bytes; return the whole events that may go on (a partial one is kept back)."""
        if self._tail or not data.endswith(b"\n\n"):
            data = self._assemble(data)
            if not data:
                return b""
        if self.error is not None:
            return b""
        self.events += data.count(b"data:")
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
        self.events += tail.count(b"data:")
        return self._inspect(tail)

    def _assemble(self, data: bytes) -> bytes:
        buffer = self._tail + data if self._tail else data
        cut = max(buffer.rfind(b"\n\n") + 2, buffer.rfind(b"\r\n\r\n") + 4, buffer.rfind(b"\r\r") + 2)
        if cut < 5 and not _EVENT_END.search(buffer):
            if len(buffer) <= EVENT_LIMIT_BYTES:
                self._tail = buffer
                return b""
            cut = len(buffer)
        self._tail = buffer[cut:]
        return buffer[:cut]

    def _inspect(self, data: bytes) -> bytes:
        start = 0
        while start < len(data):
            match = _EVENT_END.search(data, start)
            end = match.end() if match else len(data)
            self._event(data[start:end])
            if self.error is not None:
                self.events -= data.count(b"data:", start)
                return data[:start]
            start = end
        return data

    def _event(self, event: bytes) -> None:
        lines = [line[5:].strip() for line in _LINE_END.split(event) if line.startswith(b"data:")]
        payload = b"\n".join(lines)
        if not payload:
            return
        if payload.startswith(b"[DONE]"):
            self.done = True
            self.events -= 1
            return
        try:
            message = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return  # one malformed line passes through: the stream may well go on
        if isinstance(message, dict):
            self._message(message)

    def _message(self, message: dict[str, Any]) -> None:
        error = message.get("error")
        if error and not message.get("choices"):
            self.error = error if isinstance(error, dict) else {"message": str(error)}
            return
        if self._kind is StreamKind.CHAT:
            content = self._chat(message)
        elif self._kind is StreamKind.RESPONSES:
            content = self._responses(message)
        elif self._kind is StreamKind.MESSAGES:
            content = self._messages(message)
        else:
            content = True
        if content:
            self.started = True
        else:
            self.events -= 1

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


def read_usage(usage: object) -> Usage | None:
    """A ``usage`` object of OpenAI's APIs or of Anthropic's messages; None if it is neither."""
    if not isinstance(usage, dict):
        return None
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    output = usage.get("completion_tokens", usage.get("output_tokens"))
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else usage.get("cache_read_input_tokens")
    numbers = [n if isinstance(n, int) and n >= 0 else None for n in (prompt, output, cached)]
    if numbers[0] is None and numbers[1] is None:
        return None
    return Usage(numbers[0] or 0, numbers[1] or 0, numbers[2], reported=True)
