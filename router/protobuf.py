"""Protobuf's wire format, for the few messages that are read and written by hand (OTLP, KEDA).

https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

#: Kinds of a field. FIXED64 is also a double, FIXED32 a float.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


class MessageError(ValueError):
    """The bytes are not a message."""


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in order: its number, and a whole number or bytes. Raises MessageError."""
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(kind)
        if size is None and kind == BYTES:
            size, at = _read_varint(data, at)
        if size is None or at + size > len(data):
            raise MessageError(f"field {number} is cut off, or of no known kind")
        yield number, data[at : at + size]
        at += size


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(_VARINT_BYTES_MAX):
        if at + i >= len(data):
            break
        byte = data[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise MessageError("a number is cut off")


def varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int, kind: int) -> bytes:
    """The beginning of a field: its number, and the kind of what follows."""
    return varint(number << 3 | kind)


def int_field(number: int, value: int) -> bytes:
    """A field with a whole number that is not negative."""
    return tag(number, VARINT) + varint(value)


def bytes_field(number: int, data: bytes) -> bytes:
    """A field with bytes: a text, or a message of its own."""
    return b"%b%b%b" % (tag(number, BYTES), varint(len(data)), data)
