"""The body that an engine gets where it is not the client's own: a stream is always asked for its usage.

Without a usage a stream is charged by its events, and an event may hold many tokens or a tool call none. The option is
put into the bytes of the body; nothing else of them changes, and no JSON is written anew.
"""

from __future__ import annotations

import re

import orjson

from router.core.sse import StreamKind
from router.gateway.ingress import Ask

_OPTION = b'{"stream_options":{"include_usage":true},'
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


def asks_for_usage(ask: Ask) -> bool:
    """Whether the router asks, since the API has the option and the client leaves it out."""
    return ask.stream and ask.envelope.kind is StreamKind.CHAT and not (ask.stream_options and wants_usage(ask))


def ask_for_usage(body: bytes, options: bytes) -> bytes:
    """The body of a stream that asks for the usage as well. It stays as it is where the place is not certain.

    ``options`` is the value of ``stream_options`` in it, which does not ask: empty if there is none.
    """
    if not options:
        begin = 0 if body.startswith(b"{") else body.find(b"{")
        return b"".join((_OPTION, memoryview(body)[begin + 1 :]))
    key = _KEY.search(body)
    if key is None or body.count(b'"stream_options"') != 1:
        return body  # an escaped key, or another one of this name deeper down
    end = key.end() + len(options)
    if body[key.end() : end] != options:
        return body
    wanted = orjson.dumps({**(orjson.loads(options) or {}), "include_usage": True})
    return b"".join((body[: key.end()], wanted, memoryview(body)[end:]))


def refuses_the_option(answer: bytes) -> bool:
    """Whether an engine's error is about the option that the router added."""
    return any(word in answer for word in _REFUSED)
