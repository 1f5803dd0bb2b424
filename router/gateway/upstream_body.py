"""The body that an engine gets where it is not the client's own: a stream is always asked for its usage.

Without a usage a stream is charged by its events, and an event may hold many tokens or a tool call none. The option is
put into the bytes of the body; nothing else of them changes, and no JSON is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import orjson

from router.core.sse import StreamKind
from router.gateway.aliases import Edit, edited, model_spans
from router.gateway.ingress import Ask
from router.gateway.members import Span, members
from router.gateway.steps import Body, finish
from router.wire.outbound import Piece

_OPTION = b'"stream_options":{"include_usage":true},'
_KEY = re.compile(rb'"stream_options"[ \t\r\n]*+:[ \t\r\n]*+')
#: In the answer of an engine that does not know the option.
_REFUSED = (b"stream_options", b"include_usage")


def wants_usage(ask: Ask) -> bool:
    """The client itself asks for the usage of its stream, or says something in that place that is no object."""
    options = ask.stream_options
    if not options or options == b"null":
        return False
    given = orjson.loads(options)
    return not isinstance(given, dict) or bool(given.get("include_usage"))


def shows_usage(ask: Ask) -> bool:
    """The client gets the usage of its stream."""
    return bool(ask.stream_options) and wants_usage(ask)


def asks_for_usage(ask: Ask) -> bool:
    """Whether the router asks, since the API has the option and the client leaves it out."""
    return ask.stream and ask.envelope.kind is StreamKind.CHAT and not shows_usage(ask)


def body_for(body: Body, ask: Ask, served: str, *, ask_usage: bool, more: Sequence[Edit] = ()) -> tuple[Piece, ...]:
    """The body for an engine, in pieces: with the name of the model as it is served, asking for the usage as well, and
    with ``more`` edits. Nothing long is copied."""
    edits: list[Edit] = [*more]
    if served != ask.model:
        if ask.model_spans is None:
            ask.model_spans = model_spans(body)
        name = served.encode() if ask.envelope.multipart else orjson.dumps(served)
        edits += [(begin, end, name) for begin, end in ask.model_spans]
    if ask_usage and not ask.envelope.multipart and (edit := usage_option(body, ask)) is not None:
        edits.append(edit)
    return edited(body, sorted(edits))


def usage_option(body: Body, ask: Ask) -> Edit | None:
    """What asks for the usage of a stream. None where its place is not certain.

    The value of ``stream_options`` in the body does not ask: it is empty if there is none.
    """
    options = ask.stream_options
    if not options:
        begin = body.find(b"{") + 1
        return (begin, begin, _OPTION)
    begin, end = _place_of(body, ask.option_spans)
    if bytes(body[begin:end]) != options:
        return None
    return (begin, end, orjson.dumps({**(orjson.loads(options) or {}), "include_usage": True}))


def _place_of(body: Body, spans: Sequence[Span] | None) -> Span:
    """Where the options stand. An empty place if there are several, or others of this name deeper down."""
    if spans is None:
        key = _KEY.search(body)
        if key is None or body.count(b'"stream_options"') != 1:
            return (0, 0)
        spans = finish(members(body, ("stream_options",))).get("stream_options", ())
    return spans[0] if len(spans) == 1 else (0, 0)


def refuses_the_option(answer: bytes) -> bool:
    """Whether an engine's error is about the option that the router added."""
    return any(word in answer for word in _REFUSED)
