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

CONTENT_TYPE = "application/x-protobuf"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
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
    status = _text(2, span.message) + (_number(3, span.status) if span.status else b"")
    return _message(
        2,
        b"".join(
            (
                _message(1, bytes.fromhex(span.trace_id)),
                _message(2, bytes.fromhex(span.span_id)),
                _text(3, span.trace_state),
                _message(4, bytes.fromhex(span.parent_id)) if span.parent_id else b"",
                _text(5, span.name),
                _number(6, span.kind),
                _fixed64(7, span.start_ns),
                _fixed64(8, span.end_ns),
                _attributes(9, span.attributes),
                *(_event(*event) for event in span.events),
                _message(15, status) if status else b"",
                _key(16, _FIXED32) + struct.pack("<I", flags),
            )
        ),
    )


def request_bytes(resource: Attributes, scope: str, version: str, spans: Iterable[bytes]) -> bytes:
    """An ExportTraceServiceRequest of spans that are encoded already."""
    scope_spans = _message(1, _text(1, scope) + _text(2, version)) + b"".join(spans)
    return _message(1, _message(1, _attributes(1, resource)) + _message(2, scope_spans))


@dataclass(frozen=True, slots=True)
class PartialSuccess:
    """The spans that a collector did not take of a request, though it answered 200."""

    rejected: int = 0
    message: str = ""


def read_response(data: bytes) -> PartialSuccess:
    """An ExportTraceServiceResponse. Raises ValueError when the bytes are not one."""
    rejected, message = 0, ""
    for number, value in _fields(data):
        if number != 1 or not isinstance(value, bytes):
            continue
        for inner, found in _fields(value):
            if inner == 1 and isinstance(found, int):
                rejected = found if found < _U64 // 2 else 0
            elif inner == 2 and isinstance(found, bytes):
                message = found.decode("utf-8", "replace")
    return PartialSuccess(rejected, message)


def _event(at_ns: int, name: str, attributes: Attributes) -> bytes:
    return _message(11, _fixed64(1, at_ns) + _text(2, name) + _attributes(3, attributes))


def _attributes(number: int, attributes: Attributes) -> bytes:
    return b"".join(
        [_message(number, _name(name) + _value(value)) for name, value in attributes.items() if value is not None]
    )


@lru_cache(512)
def _name(name: str) -> bytes:
    """Names are constants of ours."""
    return _text(1, name)


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _message(2, _message(1, value.encode("utf-8", "replace")))
    if isinstance(value, bool):
        return b"\x12\x02\x10\x01" if value else b"\x12\x02\x10\x00"
    if isinstance(value, int):
        return _message(2, _key(3, _VARINT) + _varint(value % _U64))
    if isinstance(value, float):
        return _message(2, _key(4, _FIXED64) + struct.pack("<d", value))
    inner = b"".join(_message(1, _message(1, text.encode("utf-8", "replace"))) for text in value)
    return _message(2, _message(5, inner))


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(number: int, data: bytes) -> bytes:
    return b"%b%b%b" % (_key(number, _BYTES), _varint(len(data)), data)


def _text(number: int, text: str) -> bytes:
    return _message(number, text.encode("utf-8", "replace")) if text else b""


def _number(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _varint(value)


def _fixed64(number: int, value: int) -> bytes:
    return _key(number, _FIXED64) + struct.pack("<Q", max(0, value))


def _fields(data: bytes) -> Iterable[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if size is None and wire == _BYTES:
            size, at = _read_varint(data, at)
        if size is None or at + size > len(data):
            raise ValueError(f"field {number} is cut off, or of no known kind")
        yield number, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(data):
            break
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError("a number is cut off")
