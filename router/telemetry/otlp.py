"""OTLP's messages for traces as bytes: ExportTraceServiceRequest is written, its response is read. Pure.

They are a handful of small messages, so they are written here and not by generated code: no library of protobuf is
needed. https://github.com/open-telemetry/opentelemetry-proto (opentelemetry/proto/trace/v1/trace.proto)
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import TypeAlias

from router.protobuf import FIXED32, FIXED64, VARINT, bytes_field, fields, int_field, tag, varint

CONTENT_TYPE = "application/x-protobuf"
_U64 = 2**64
#: Bits of Span.flags beside the W3C's: whether it is known where the parent is, and that it is in another process.
_KNOWN_REMOTE, _IS_REMOTE = 0x100, 0x200

Value: TypeAlias = str | bool | int | float | tuple[str, ...]
Attributes: TypeAlias = Mapping[str, Value | None]


class SpanKind(IntEnum):
    SERVER = 2
    CLIENT = 3


class StatusCode(IntEnum):
    UNSET = 0
    ERROR = 2


@dataclass(slots=True)
class Span:
    """One span. Ids are hex digits, times are nanoseconds since 1970. Attributes that are None are left out."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    attributes: Attributes
    status: StatusCode = StatusCode.UNSET
    message: str = ""
    trace_state: str = ""
    flags: int = 0  # of the W3C
    remote_parent: bool = False
    events: tuple[tuple[int, str, Attributes], ...] = field(default=())


def span_bytes(span: Span) -> bytes:
    """The span as one entry of ``ScopeSpans.spans``."""
    flags = span.flags | _KNOWN_REMOTE | (_IS_REMOTE if span.remote_parent else 0)
    status = _text(2, span.message) + (int_field(3, span.status) if span.status else b"")
    return bytes_field(
        2,
        b"".join(
            (
                bytes_field(1, bytes.fromhex(span.trace_id)),
                bytes_field(2, bytes.fromhex(span.span_id)),
                _text(3, span.trace_state),
                bytes_field(4, bytes.fromhex(span.parent_id)) if span.parent_id else b"",
                _text(5, span.name),
                int_field(6, span.kind),
                _fixed64(7, span.start_ns),
                _fixed64(8, span.end_ns),
                _attributes(9, span.attributes),
                *(_event(*event) for event in span.events),
                bytes_field(15, status) if status else b"",
                tag(16, FIXED32) + struct.pack("<I", flags),
            )
        ),
    )


def request_bytes(resource: Attributes, scope: str, version: str, spans: Iterable[bytes]) -> bytes:
    """An ExportTraceServiceRequest of spans that are encoded already."""
    scope_spans = bytes_field(1, _text(1, scope) + _text(2, version)) + b"".join(spans)
    return bytes_field(1, bytes_field(1, _attributes(1, resource)) + bytes_field(2, scope_spans))


@dataclass(frozen=True, slots=True)
class PartialSuccess:
    """The spans that a collector did not take of a request, though it answered 200."""

    rejected: int = 0
    message: str = ""


def read_response(data: bytes) -> PartialSuccess:
    """An ExportTraceServiceResponse. Raises ValueError when the bytes are not one."""
    rejected, message = 0, ""
    for number, value in fields(data):
        if number != 1 or not isinstance(value, bytes):
            continue
        for inner, found in fields(value):
            if inner == 1 and isinstance(found, int):
                rejected = found if found < _U64 // 2 else 0
            elif inner == 2 and isinstance(found, bytes):
                message = found.decode("utf-8", "replace")
    return PartialSuccess(rejected, message)


def _event(at_ns: int, name: str, attributes: Attributes) -> bytes:
    return bytes_field(11, _fixed64(1, at_ns) + _text(2, name) + _attributes(3, attributes))


def _attributes(number: int, attributes: Attributes) -> bytes:
    return b"".join(
        [bytes_field(number, _name(name) + _value(value)) for name, value in attributes.items() if value is not None]
    )


@lru_cache(512)
def _name(name: str) -> bytes:
    """Names are constants of ours."""
    return _text(1, name)


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return bytes_field(2, bytes_field(1, value.encode("utf-8", "replace")))
    if isinstance(value, bool):
        return b"\x12\x02\x10\x01" if value else b"\x12\x02\x10\x00"
    if isinstance(value, int):
        return bytes_field(2, tag(3, VARINT) + varint(value % _U64))
    if isinstance(value, float):
        return bytes_field(2, tag(4, FIXED64) + struct.pack("<d", value))
    inner = b"".join(bytes_field(1, bytes_field(1, text.encode("utf-8", "replace"))) for text in value)
    return bytes_field(2, bytes_field(5, inner))


def _text(number: int, text: str) -> bytes:
    return bytes_field(number, text.encode("utf-8", "replace")) if text else b""


def _fixed64(number: int, value: int) -> bytes:
    return tag(number, FIXED64) + struct.pack("<Q", max(0, value))
