"""W3C trace context: the trace that a request belongs to, by its header ``traceparent``. Pure.

https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re

#: version 00 ends after the flags; later versions may go on behind a dash. Version ff and ids of zeros are invalid.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?", re.DOTALL
)
_LENGTH_MAX = 512


def trace_id_of(traceparent: bytes) -> str | None:
    """The trace's id, 32 hex digits; None when the header is not valid and must be ignored."""
    if len(traceparent) > _LENGTH_MAX or (match := _TRACEPARENT.fullmatch(traceparent)) is None:
        return None
    version, trace_id, rest = match.groups()
    return None if version == b"00" and rest else trace_id.decode()
