"""W3C trace context: the trace that a request belongs to, as clients say it and as backends are told. Pure.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from random import Random
from typing import NamedTuple

#: version 00 ends after the flags; later versions may go on behind a dash. Version ff and ids of zeros are invalid.
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_LENGTH_MAX = 512
SAMPLED = 0x01
#: of the flags of others only these mean something: sampled, and that the trace's id is random
_KNOWN_FLAGS = 0x03

_MEMBER = re.compile(
    rb"[a-z0-9][a-z0-9_\-*/]{0,255}(?:@[a-z][a-z0-9_\-*/]{0,13})?=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}"
    rb"[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MEMBERS_MAX = 32
_STATE_BYTES_MAX = 8192


class ClientSpan(NamedTuple):
    """The span of the client that a request belongs to. ``state``: its tracestate, empty if there is none."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16
    flags: int
    state: bytes = b""

    @property
    def sampled(self) -> bool:
        """The client records the trace."""
        return bool(self.flags & SAMPLED)


def parent_of(traceparent: bytes, tracestate: bytes = b"") -> ClientSpan | None:
    """The span that the headers tell; None when ``traceparent`` is not valid: then both must be ignored."""
    if len(traceparent) > _LENGTH_MAX or (match := _TRACEPARENT.fullmatch(traceparent)) is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == b"00" and rest:
        return None
    return ClientSpan(trace_id.decode(), span_id.decode(), int(flags, 16) & _KNOWN_FLAGS, _state_of(tracestate))


def _state_of(tracestate: bytes) -> bytes:
    """The list without what is empty; nothing at all when a member is not valid, is there twice, or is one too many."""
    if not tracestate or len(tracestate) > _STATE_BYTES_MAX:
        return b""
    members = [member for part in tracestate.split(b",") if (member := part.strip(b" \t"))]
    names = {member.partition(b"=")[0] for member in members}
    valid = len(names) == len(members) <= _MEMBERS_MAX and all(map(_MEMBER.fullmatch, members))
    return b",".join(members) if valid else b""


class Trace:
    """The trace of one request while traces are exported: the request's own span, and one for each attempt."""

    __slots__ = ("_rng", "_spans", "exported", "flags", "parent", "span_id", "trace_id")

    def __init__(self, parent: ClientSpan | None, rng: Random, *, share: float = 1.0) -> None:
        """``share`` of the traces that begin here are sampled."""
        self._rng = rng
        self._spans: dict[object, str] = {}
        self.exported = False  # known when the request has ended
        self.parent = parent
        self.span_id = _id(rng, 64)
        if parent is None:
            self.trace_id = _id(rng, 128)
            self.flags = SAMPLED if int(self.trace_id[16:], 16) < share * 2**64 else 0
        else:
            self.trace_id, self.flags = parent.trace_id, parent.flags

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    def lines(self, attempt: object) -> bytes:
        """The header lines for the backend of an attempt, whose span is the parent of what happens there."""
        span_id = self._spans.get(attempt)
        if span_id is None:
            span_id = self._spans[attempt] = _id(self._rng, 64)
        line = b"traceparent: 00-%b-%b-%02x\r\n" % (self.trace_id.encode(), span_id.encode(), self.flags)
        state = self.parent.state if self.parent is not None else b""
        return b"%btracestate: %b\r\n" % (line, state) if state else line

    def ended(self, attempt: object) -> str:
        """The span of an attempt that is over, also of one that nothing was sent for."""
        return self._spans.pop(attempt, None) or _id(self._rng, 64)


def _id(rng: Random, bits: int) -> str:
    """An id that is not zero, in hex digits."""
    return f"{rng.getrandbits(bits) or 1:0{bits // 4}x}"
