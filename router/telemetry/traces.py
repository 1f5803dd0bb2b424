"""W3C trace context: the header ``traceparent``. Pure.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_HEADER_LENGTH_MAX = 512


class TraceParent(NamedTuple):
    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits, the caller's span
    sampled: bool


def parse_traceparent(value: str) -> TraceParent | None:
    """The header's parts, or None when it is not valid and must be ignored."""
    if len(value) > _HEADER_LENGTH_MAX or (match := _TRACEPARENT.fullmatch(value.strip(" \t"))) is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return TraceParent(trace_id, span_id, bool(int(flags, 16) & 1))
