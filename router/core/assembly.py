"""A whole answer put together from a stream: what the same engine would have given, had it not been asked to stream.

An engine that streams shows that it makes progress, and notices at once when nobody wants the answer any more:
llama.cpp continues a whole answer to its end. The rows of ``core/traits.py`` say which engines' whole answers can
be had this way, ``why_not`` says of which requests: those that say nothing which changes the members of an answer in
ways that were not compared with an engine's own. Every other request goes to the engine as it came.

An ordinary event is not parsed: it differs from the one before it in one string only, whose bytes are kept as the
engine wrote them. The cost is linear in the bytes of the stream.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import orjson

from router.core.framing import events_of, fields_of
from router.core.leniency import loads
from router.core.shapes import Assembled, WholeShape

#: Of the texts of one answer together, and of the events that were parsed. No engine writes as much.
TEXT_BYTES_MAX = 16 * 1024 * 1024
#: A longer body is not read for this: its request goes as it came.
BODY_BYTES_MAX = 1024 * 1024

_CHARACTERS = re.compile(rb'(?:[^"\\\x00-\x1f]|\\.)*+')
_TEXT = {
    True: re.compile(rb'"content": ?"((?:[^"\\\x00-\x1f]|\\.)*+)"'),
    False: re.compile(rb'"text": ?"((?:[^"\\\x00-\x1f]|\\.)*+)"'),
}
#: Begins no event.
_NOT_KNOWN = b"\0"

#: Members of a request that change what is said, and nothing about the members of the answer that says it.
_COMMON = frozenset(
    {
        "model",
        "messages",
        "prompt",
        "stream",
        "n",
        "logprobs",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "response_format",
        "user",
        "metadata",
        "store",
        "ignore_eos",
    }
)


class NotWholeError(Exception):
    """The stream makes no whole answer. The text says why."""


class _Message(msgspec.Struct, gc=False):
    role: str | None = None


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_messages = msgspec.json.Decoder(list[_Message])
_NOTHING = frozenset({b"null", b"false", b"0"})


def why_not(row: Assembled, body: bytes, *, chat: bool) -> str | None:
    """Why the whole answer to a request cannot be put together from a stream. None: it can, exactly."""
    if len(body) > BODY_BYTES_MAX:
        return "its body is long"
    try:
        members = {name: bytes(value) for name, value in _members.decode(body).items()}
        if chat and row.chat.repeats_begun:
            messages = _messages.decode(members.get("messages", b""))
            if not messages or messages[-1].role == "assistant":
                return "it begins the answer itself"
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "its body is not what the API says"
    if not members.keys() <= _COMMON:
        return f"it says {min(members.keys() - _COMMON)}"
    if members.get("n", b"null") not in (b"1", b"null"):
        return "it asks for several choices"
    if members.get("logprobs", b"null") not in _NOTHING:
        return "it asks for log probabilities"
    if not chat and members.get("prompt", b"")[:1] != b'"':
        return "its prompt is not one text"
    return None


class Assembly:
    """Takes the events of one stream, in order; ``whole`` is the answer once all have come."""

    __slots__ = ("_begin", "_calls", "_chat", "_choice", "_end", "_size", "_strings", "_text", "_top")

    def __init__(self, *, chat: bool) -> None:
        self._chat = chat
        self._top: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        #: pieces of JSON strings, as they stand between their quotes
        self._text: list[bytes] = []
        self._strings: dict[str, list[str]] = {}
        self._calls: dict[int, dict[str, Any]] = {}
        self._size = 0
        #: what stands before and after the text of an ordinary event
        self._begin = self._end = _NOT_KNOWN

    def feed(self, data: bytes) -> None:
        """Whole events. Raises NotWholeError."""
        for event in events_of(data):
            begin, end = self._begin, self._end
            if event.startswith(begin) and event.endswith(end):
                text = event[len(begin) : len(event) - len(end)]
                if _CHARACTERS.fullmatch(text):
                    self._text.append(text)
                    self._size += len(text)
                    continue
            self._size += len(event)
            self._read(event)
        if self._size > TEXT_BYTES_MAX:
            raise NotWholeError(f"is over {TEXT_BYTES_MAX} bytes")

    def _read(self, event: bytes) -> None:
        name, lines = fields_of(event)
        data = b"\n".join(lines)
        if not lines or data.strip() == b"[DONE]":
            return
        try:
            message = loads(data)
        except ValueError:
            raise NotWholeError("has an event that is not JSON") from None
        if not isinstance(message, dict) or name == b"error":
            raise NotWholeError("has an event that is not part of an answer")
        for member, value in message.items():
            if member == "choices":
                self._read_choices(value, event)
            elif value is not None or member not in self._top:
                self._top[member] = value

    def _read_choices(self, choices: Any, event: bytes) -> None:
        if not isinstance(choices, list) or len(choices) > 1:
            raise NotWholeError("has several choices in one event")
        for choice in choices:
            if not isinstance(choice, dict) or choice.get("index", 0) != 0:
                raise NotWholeError("has several choices")
            for member, value in choice.items():
                if member == "delta":
                    self._read_delta(value if isinstance(value, dict) else {}, event)
                elif member == "text":
                    self._add_text(value, event, ordinary=choice.get("finish_reason") is None)
                elif value is not None or member not in self._choice:
                    self._choice[member] = value

    def _read_delta(self, delta: dict[str, Any], event: bytes) -> None:
        for member, value in delta.items():
            if member == "content":
                self._add_text(value, event, ordinary=delta.keys() == {"content"} and b'"finish_reason":null' in event)
            elif member == "tool_calls":
                for call in value or ():
                    self._add_call(call)
            elif member == "role":
                self._strings.setdefault("role", [str(value)])
            elif isinstance(value, str):
                self._strings.setdefault(member, []).append(value)
            elif value is not None:
                raise NotWholeError(f"has a {member} that no rule puts together")

    def _add_text(self, value: Any, event: bytes, *, ordinary: bool) -> None:
        """``ordinary``: the event says nothing else that is new."""
        if not isinstance(value, str):
            return
        found = list(_TEXT[self._chat].finditer(event))
        if len(found) != 1:
            self._text.append(orjson.dumps(value)[1:-1])
            return
        begin, end = found[0].span(1)
        self._text.append(event[begin:end])
        if ordinary:
            self._begin, self._end = event[:begin], event[end:]

    def _add_call(self, part: Any) -> None:
        if not isinstance(part, dict) or not isinstance(part.get("index", 0), int):
            raise NotWholeError("has a tool call of an unknown shape")
        call = self._calls.setdefault(part.get("index", 0), {"function": {}})
        for member, value in part.items():
            if member == "function" and isinstance(value, dict):
                function = call["function"]
                for name, text in value.items():
                    if text is not None:
                        function[name] = function.get(name, "") + text if name == "arguments" else text
            elif member != "index" and value is not None:
                call[member] = value

    def whole(self, shape: WholeShape) -> bytes:
        """The answer, in JSON. Raises NotWholeError if something that every whole answer has did not come."""
        if self._choice.get("finish_reason") is None or self._top.get("usage") is None:
            raise NotWholeError("ends without a finish reason or a usage")
        text = orjson.Fragment(b'"%b"' % b"".join(self._text))
        said = {name: value for name, value in self._choice.items() if name != "token_ids"}
        if self._chat:
            said["message"] = _ordered(shape.message, shape.nulls, self._message(text))
        else:
            said["text"] = text
        top = {**self._top, "choices": [_ordered(shape.choice, shape.nulls, said)]}
        top["object"] = "chat.completion" if self._chat else "text_completion"
        for name in ("prompt_token_ids", "prompt_text"):  # nobody has asked for these
            top.pop(name, None)
        if shape.usage and isinstance(usage := top["usage"], dict):
            details = usage.get("prompt_tokens_details")
            if isinstance(details, dict):
                usage = {**usage, "prompt_tokens_details": _ordered(shape.details, shape.nulls, details)}
            top["usage"] = _ordered(shape.usage, shape.nulls, usage)
        return orjson.dumps(_ordered(shape.top, shape.nulls, top))

    def _message(self, text: orjson.Fragment) -> dict[str, Any]:
        message: dict[str, Any] = {name: "".join(parts) for name, parts in self._strings.items()}
        message.setdefault("role", "assistant")
        message["content"] = text if any(self._text) or not self._calls else None
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return message


def _ordered(names: tuple[str, ...], nulls: frozenset[str], said: dict[str, Any]) -> dict[str, Any]:
    """``said`` with its members in the order of ``names``, the others last, and a null for those that are missing."""
    known = {name: said.get(name) for name in names if name in said or name in nulls}
    return known | {name: value for name, value in said.items() if name not in known}
