"""The request for the rest of an answer that broke off: the client's own body, and the answer so far put into it.

A chat gets one more message, with what was said, and two members that make engines continue it in the same turn. A
completion gets a longer prompt. Limits are lowered to what is left of them. Nothing else of the body changes.

White space at the end is not sent: many chat templates cut it off, and it is rarely the end of a token. It comes again,
and the seam drops it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from router.core.continuable import MEMBERS, reason_in
from router.core.traits import Continues, Traits
from router.core.transcript import Transcript, escaped
from router.core.types import Value
from router.gateway.aliases import Edit
from router.gateway.members import MalformedError, Span, members
from router.gateway.steps import Body, Steps, finish

_LIMITS = ("max_tokens", "max_completion_tokens", "n_predict")
_FLAGS = {"continue_final_message": b"true", "add_generation_prompt": b"false"}
_NAMES = frozenset(
    (*MEMBERS, *_LIMITS, *_FLAGS, "min_tokens", "messages", "prompt", "stop", "include_stop_str_in_output")
)
_PROMPTS = ("messages", "prompt")
_QUOTE = b'"'


class _Message(msgspec.Struct):
    role: str = ""


class Rest(Value, eq=False):
    """``edits``: of the client's body. ``said``: tokens of the answer that are in it; the others come again, and
    ``again`` is what they say. ``limited``: its tokens are limited. ``over``: nothing is left to ask for."""

    edits: list[Edit]
    least: Continues
    text: str
    said: int
    again: str
    stops: tuple[str, ...]
    shows_stop: bool
    limited: bool = False
    over: bool = False


def rest_of(body: Body, transcript: Transcript, first: Traits) -> Steps[Rest | str]:
    """The request for the rest, or why there can be none. ``first``: of the engine that began the answer."""
    text = transcript.text
    if transcript.odd:
        return transcript.odd
    try:
        places = yield from members(body, _NAMES)
    except MalformedError:
        return "odd_request"
    given = {name: _read(body, spans[-1]) for name, spans in places.items() if name not in _PROMPTS}
    reason = reason_in(given)
    if reason is not None:
        return reason
    chat = "messages" in places
    spans = places.get("messages" if chat else "prompt", ())
    if len(spans) != 1:
        return "odd_request"
    again = text[len(text.rstrip()) :] if chat else ""
    sent, said = text.removesuffix(again), transcript.events - (transcript.blank_events if again else 0)
    if chat and not sent.strip():
        sent, again, said = "", text, 0
    by_default = None if chat or "max_tokens" in given else first.completion_tokens  # null is no limit
    edits = _limits(body, places, given, said, by_default)
    if sent:
        more = _in_messages(body, spans[0], places, given, sent, first) if chat else _in_prompt(body, spans[0], sent)
        if more is None:
            return "odd_request"
        edits += more
    most = [limit for name in _LIMITS if (limit := _number(given.get(name))) is not None]
    limited = bool(most) or by_default is not None
    # Which of several limits is in force differs between engines: one that was passed is not.
    over = transcript.events in most or transcript.events >= max(most) if most else transcript.events == by_default
    stops = _stops(given.get("stop"))
    shows_stop = bool(given.get("include_stop_str_in_output"))
    return Rest(edits, Continues.TEXT, text, said, again, stops, shows_stop, limited, over and transcript.events > 0)


def _read(body: Body, span: Span) -> Any:
    try:
        return orjson.loads(body[slice(*span)])
    except orjson.JSONDecodeError:
        return None


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _stops(value: object) -> tuple[str, ...]:
    stops = value if isinstance(value, list) else [value]
    return tuple(stop for stop in stops if isinstance(stop, str) and stop)


def _limits(
    body: Body, places: dict[str, list[Span]], given: dict[str, Any], said: int, by_default: int | None
) -> list[Edit]:
    """``by_default``: tokens that the engine gives where no limit is named."""
    edits = []
    for name, least in (*((name, 1) for name in _LIMITS), ("min_tokens", 0)):
        limit = _number(given.get(name))
        if limit is not None:
            edits += [(begin, end, b"%d" % max(least, limit - said)) for begin, end in places[name]]
    if by_default is not None and not any(_number(given.get(name)) is not None for name in _LIMITS):
        begin = body.find(b"{") + 1
        edits.append((begin, begin, b'"max_tokens":%d,' % max(1, by_default - said)))
    return edits


def _in_prompt(body: Body, span: Span, text: str) -> list[Edit] | None:
    """Behind the last character of the one string that the prompt is."""
    begin, end = span
    at = body.rfind(_QUOTE, begin, end)
    if body[begin : begin + 1] == _QUOTE or (body[begin : begin + 1] == b"[" and at > begin):
        return [(at, at, escaped(text))]
    return None


def _in_messages(
    body: Body, span: Span, places: dict[str, list[Span]], given: dict[str, Any], text: str, first: Traits
) -> list[Edit] | None:
    """One more message, or more of the last one if the client itself asked to continue it."""
    begin, end = span
    try:
        messages = msgspec.json.decode(body[begin:end], type=list[msgspec.Raw])
        last = bytes(messages[-1])
        role = msgspec.json.decode(last, type=_Message).role
    except (msgspec.MsgspecError, IndexError):
        return None
    goes_on = given.get("continue_final_message") is True
    if given.get("add_generation_prompt") is False and not goes_on:
        return None
    if goes_on or (role == "assistant" and first.prefills):
        at = _end_of_content(last)
        if at is None:
            return None
        at += body.rfind(last, begin, end)
        edits: list[Edit] = [(at, at, escaped(text))]
    elif role == "assistant":
        return None
    else:
        edits = [(end - 1, end - 1, b',{"role":"assistant","content":"%b"}' % escaped(text))]
    for name, value in _FLAGS.items():
        if name in places:
            edits += [(*place, value) for place in places[name]]
        else:
            begin = body.find(b"{") + 1
            edits.append((begin, begin, b'"%b":%b,' % (name.encode(), value)))
    return edits


def _end_of_content(message: bytes) -> int | None:
    """Where the text of a message ends. None: it is not one string."""
    spans = finish(members(message, ("content",))).get("content", ())
    if len(spans) != 1 or message[spans[0][0] : spans[0][0] + 1] != _QUOTE:
        return None
    return spans[0][1] - 1
