"""The messages of KEDA's externalscaler.proto (kedacore/keda, pkg/scalers/externalscaler), as bytes.

They are six small messages of strings, numbers and one map, so they are read and written here and not by generated
code: grpcio carries bytes, and needs no protobuf. Unknown fields are skipped, as protobuf does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


class MessageError(ValueError):
    """The bytes are not a message."""


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """Who asks: ScaledObjectRef."""

    name: str = ""
    namespace: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


def read_scaled_object(data: bytes) -> ScaledObject:
    """Raises MessageError."""
    name = namespace = ""
    metadata: dict[str, str] = {}
    for number, value in _fields(data):
        if isinstance(value, bytes):
            if number == 1:
                name = _text(value)
            elif number == 2:
                namespace = _text(value)
            elif number == 3:
                entry = {n: _text(v) for n, v in _fields(value) if isinstance(v, bytes)}
                metadata[entry.get(1, "")] = entry.get(2, "")
    return ScaledObject(name, namespace, metadata)


def read_metrics_request(data: bytes) -> tuple[ScaledObject, str]:
    """GetMetricsRequest: who asks, and for which metric. Raises MessageError."""
    asks, metric = ScaledObject(), ""
    for number, value in _fields(data):
        if isinstance(value, bytes):
            if number == 1:
                asks = read_scaled_object(value)
            elif number == 2:
                metric = _text(value)
    return asks, metric


def is_active(active: bool) -> bytes:
    """IsActiveResponse. False is the default, and has no bytes."""
    return b"\x08\x01" if active else b""


def metric_spec(name: str, target: float) -> bytes:
    """GetMetricSpecResponse with one metric. Older versions of KEDA read the whole number."""
    return _inner(1, _inner(1, name.encode()) + _number(2, round(target)) + _double(3, target))


def metric_value(name: str, value: float) -> bytes:
    """GetMetricsResponse with one metric."""
    return _inner(1, _inner(1, name.encode()) + _number(2, round(value)) + _double(3, value))


def scaled_object(asks: ScaledObject) -> bytes:
    entries = [_inner(1, key.encode()) + _inner(2, value.encode()) for key, value in asks.metadata.items()]
    own = _inner(1, asks.name.encode()) + _inner(2, asks.namespace.encode())
    return own + b"".join(_inner(3, entry) for entry in entries)


def metrics_request(asks: ScaledObject, metric: str) -> bytes:
    return _inner(1, scaled_object(asks)) + _inner(2, metric.encode())


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in order: its number, and a whole number or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        size = 8 if kind == _DOUBLE else 4 if kind == _FLOAT else None
        if size is None and kind == _BYTES:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise MessageError(f"field {number} is cut off, or of no known kind")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(_VARINT_BYTES_MAX):
        if at + i >= len(data):
            break
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise MessageError("a number is cut off")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MessageError("a text is not UTF-8") from None


def _written(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _inner(number: int, data: bytes) -> bytes:
    return _written(number << 3 | _BYTES) + _written(len(data)) + data if data else b""


def _number(number: int, value: int) -> bytes:
    return _written(number << 3 | _VARINT) + _written(value) if value else b""


def _double(number: int, value: float) -> bytes:
    return _written(number << 3 | _DOUBLE) + struct.pack("<d", value) if value else b""
