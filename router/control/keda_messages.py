"""The messages of KEDA's externalscaler.proto (kedacore/keda, pkg/scalers/externalscaler), as bytes.

They are six small messages of strings, numbers and one map, so they are read and written here and not by generated
code: grpcio carries bytes, and needs no protobuf. Unknown fields are skipped, as protobuf does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from router.protobuf import FIXED64, MessageError, bytes_field, fields, int_field, tag


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
    for number, value in fields(data):
        if isinstance(value, bytes):
            if number == 1:
                name = _text(value)
            elif number == 2:
                namespace = _text(value)
            elif number == 3:
                entry = {n: _text(v) for n, v in fields(value) if isinstance(v, bytes)}
                metadata[entry.get(1, "")] = entry.get(2, "")
    return ScaledObject(name, namespace, metadata)


def read_metrics_request(data: bytes) -> tuple[ScaledObject, str]:
    """GetMetricsRequest: who asks, and for which metric. Raises MessageError."""
    asks, metric = ScaledObject(), ""
    for number, value in fields(data):
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


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MessageError("a text is not UTF-8") from None


def _inner(number: int, data: bytes) -> bytes:
    return bytes_field(number, data) if data else b""


def _number(number: int, value: int) -> bytes:
    return int_field(number, value) if value else b""


def _double(number: int, value: float) -> bytes:
    return tag(number, FIXED64) + struct.pack("<d", value) if value else b""
