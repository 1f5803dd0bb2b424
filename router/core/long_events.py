"""An event that is too long to be held: it goes on in parts, and its two ends tell what it was.

Responses repeat the instructions and tools of the request in their first and last events, and pictures come as Base64
in one event. Members that end or count an answer stand near the beginning or the end of it.
"""

from __future__ import annotations

import re
from typing import Any

from router.core.framing import EVENT_END
from router.core.usage import usage_at_end

EDGE_BYTES = 4096

_REASON = re.compile(rb'"finish_reason"\s{0,8}:\s{0,8}"([^"\\]{1,64})"')
_INDEX = re.compile(rb'"index"\s{0,8}:\s{0,8}(\d{1,6})')
_TYPE = re.compile(
    rb"(?:event: ?|\"type\"\s{0,8}:\s{0,8}\")(response\.[a-z_.]{1,60}|(?:message|content_block)_[a-z]{1,20})"
)
_INCOMPLETE = re.compile(rb'"incomplete_details"\s{0,8}:\s{0,8}\{\s{0,8}"reason"\s{0,8}:\s{0,8}"([^"\\]{1,64})"')


class LongEvent:
    """One event on its way, from the first of its bytes that went on."""

    __slots__ = ("_begin", "_end")

    def __init__(self, data: bytes) -> None:
        self._begin = data[:EDGE_BYTES]
        self._end = data[-EDGE_BYTES:]

    def take(self, data: bytes) -> int:
        """The next bytes. Returns where in them the event ends, 0 if it goes on."""
        before = self._end[-3:]
        match = EVENT_END.search(before + data)
        behind = match.end() - len(before) if match is not None else 0
        part = data[:behind] if behind > 0 else data
        self._end = (self._end + part[-EDGE_BYTES:])[-EDGE_BYTES:]
        return max(0, behind)

    def summary(self) -> dict[str, Any]:
        """The message that it would be without the member that makes it long."""
        ends = self._begin + b"\n" + self._end
        found: dict[str, Any] = {}
        if (kind := _TYPE.search(self._begin)) is not None or (kind := _last(_TYPE, self._end)) is not None:
            found["type"] = kind[1].decode()
        usage = None
        if (read := usage_at_end(self._end)) is not None:
            usage = {
                "input_tokens": read.prompt_tokens,
                "output_tokens": read.output_tokens,
                "input_tokens_details": {"cached_tokens": read.cached_tokens},
            }
        if b'"choices"' in ends:
            reason, index = _last(_REASON, ends), _INDEX.search(ends)
            choice = {
                "index": int(index[1]) if index is not None else 0,
                "delta": {"content": "…"},
                "finish_reason": reason[1].decode("utf-8", "replace") if reason is not None else None,
            }
            return {**found, "choices": [choice], "usage": usage}
        reason = _last(_INCOMPLETE, ends)
        details = {"reason": reason[1].decode("utf-8", "replace")} if reason is not None else None
        return {**found, "response": {"usage": usage, "incomplete_details": details}, "usage": usage}


def _last(pattern: re.Pattern[bytes], data: bytes) -> re.Match[bytes] | None:
    matches = list(pattern.finditer(data))
    return matches[-1] if matches else None
