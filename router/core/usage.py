"""The tokens of an answer, as engines report them."""

from __future__ import annotations

from typing import Any

import orjson

from router.core.types import Usage

#: More tokens than this no answer has.
COUNT_MAX = 1 << 40
#: What Anthropic's ``input_tokens`` leaves out of the prompt: read from the prefix cache, and written to it.
CACHE_MEMBERS = ("cache_read_input_tokens", "cache_creation_input_tokens")


def read_usage(usage: object) -> Usage | None:
    """A ``usage`` object of OpenAI's APIs or of Anthropic's messages; None if it is neither."""
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    output = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    if prompt is None and output is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    if isinstance(details, dict):
        return Usage(prompt or 0, output or 0, _count(details.get("cached_tokens")), True)
    read, created = (_count(usage.get(name)) for name in CACHE_MEMBERS)
    if "prompt_tokens" not in usage:
        prompt = (prompt or 0) + (read or 0) + (created or 0)
    return Usage(prompt or 0, output or 0, read, True)


def usage_at_end(body: bytes) -> Usage | None:
    """The last ``usage`` in the end of a long answer, None if there is none."""
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


def merged(last: Usage | None, read: Usage, *, add_output: bool) -> Usage:
    """A stream reports again: counts grow, and what the later report leaves out stays. ``add_output``: it is of
    another choice."""
    if last is None:
        return read
    if add_output:
        read.output_tokens += last.output_tokens
    else:
        read.output_tokens = max(read.output_tokens, last.output_tokens)
    read.prompt_tokens = max(read.prompt_tokens, last.prompt_tokens)
    if read.cached_tokens is None:
        read.cached_tokens = last.cached_tokens
    return read


def _count(value: Any) -> int | None:
    """A number of tokens as told; None if it cannot be one."""
    if isinstance(value, float) and value.is_integer():  # Lua and JavaScript have but one kind of number
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= COUNT_MAX else None
