"""Questions and answers of the domain name system, as bytes (RFC 1035, 2782, 6891). Pure; every length is checked."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

A, CNAME, AAAA, SRV, OPT = 1, 5, 28, 33, 41
_IN = 1
_TYPES = (A, CNAME, AAAA, SRV)
#: What answers may be over UDP: below what is cut into pieces on the way.
UDP_BYTES = 1232
_HEAD = struct.Struct("!6H")
_RECORD = struct.Struct("!HHIH")
_RECORDS_MAX = 4096
_ALIASES_MAX = 16
_RECURSION_WANTED = 0x0100
_ANSWER, _CUT, _CODE = 0x8000, 0x0200, 0x000F
_NO_ERROR, _NO_NAME, _NOT_IMPLEMENTED = 0, 3, 4
_CODES = {1: "did not understand the question", 2: "failed", 5: "refused"}


class MalformedAnswerError(ValueError):
    """Not an answer to the question."""


class ServerFailureError(Exception):
    """The name server says that it cannot tell."""


class NameRecord(NamedTuple):
    """``data``: an address, the name of an alias, or a ``ServiceAt``."""

    name: str
    kind: int
    ttl_s: int
    data: str | ServiceAt


class ServiceAt(NamedTuple):
    """The data of an SRV record."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class NameAnswer:
    """``exists`` is false when there is no such name. ``cut``: ask again over TCP."""

    records: tuple[NameRecord, ...] = ()
    exists: bool = True
    cut: bool = False

    def of(self, name: str, kind: int) -> list[NameRecord]:
        """The records of one kind, of ``name`` or of what it is an alias for; each with the shortest time to live on
        the way there."""
        at, ttl_s = canonical(name), 2**31
        for _ in range(_ALIASES_MAX):
            found = [r for r in self.records if r.name == at and r.kind == kind]
            if found:
                return [r._replace(ttl_s=min(ttl_s, r.ttl_s)) for r in found]
            alias = next((r for r in self.records if r.name == at and r.kind == CNAME), None)
            if alias is None or not isinstance(alias.data, str):
                break
            at, ttl_s = canonical(alias.data), min(ttl_s, alias.ttl_s)
        return []


def canonical(name: str) -> str:
    return name.rstrip(".").lower()


def question(number: int, name: str, kind: int) -> bytes:
    """Ask for the records of one kind. Raises ValueError for a name that cannot be asked for."""
    head = _HEAD.pack(number, _RECURSION_WANTED, 1, 0, 0, 1)
    extension = b"\x00" + _RECORD.pack(OPT, UDP_BYTES, 0, 0)
    return head + _written(name) + struct.pack("!HH", kind, _IN) + extension


def answer(message: bytes, number: int, name: str, kind: int) -> NameAnswer:
    """Read the answer to ``question(number, name, kind)``. Raises MalformedAnswerError and ServerFailureError."""
    if len(message) < _HEAD.size:
        raise MalformedAnswerError("too short")
    got, flags, questions, answers, authorities, additional = _HEAD.unpack_from(message)
    if got != number or not flags & _ANSWER or questions != 1:
        raise MalformedAnswerError("not the answer to this question")
    asked, at = _name(message, _HEAD.size)
    if at + 4 > len(message) or asked != canonical(name) or struct.unpack_from("!HH", message, at) != (kind, _IN):
        raise MalformedAnswerError("the answer to another question")
    code = flags & _CODE
    if code == _NOT_IMPLEMENTED:  # of addresses of the newer family
        return NameAnswer()
    if code not in (_NO_ERROR, _NO_NAME):
        raise ServerFailureError(f"the name server {_CODES.get(code, f'answers with code {code}')}")
    if flags & _CUT:
        return NameAnswer(cut=True)
    records = tuple(_records(message, at + 4, min(_RECORDS_MAX, answers + authorities + additional)))
    return NameAnswer(records, exists=code == _NO_ERROR)


def _records(message: bytes, at: int, count: int) -> Iterator[NameRecord]:
    for _ in range(count):
        name, at = _name(message, at)
        if at + _RECORD.size > len(message):
            raise MalformedAnswerError("cut off")
        kind, class_, ttl_s, size = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        if at + size > len(message):
            raise MalformedAnswerError("cut off")
        if class_ == _IN and kind in _TYPES:
            yield NameRecord(name, kind, ttl_s if ttl_s < 2**31 else 0, _data(message, at, size, kind))
        at += size


def _data(message: bytes, at: int, size: int, kind: int) -> str | ServiceAt:
    if kind == CNAME:
        return _name(message, at)[0]
    if kind == SRV:
        if size < 7:
            raise MalformedAnswerError("an SRV record is too short")
        priority, weight, port = struct.unpack_from("!3H", message, at)
        return ServiceAt(priority, weight, port, _name(message, at + 6)[0])
    if size != (4 if kind == A else 16):
        raise MalformedAnswerError("an address has the wrong length")
    return str(ipaddress.ip_address(message[at : at + size]))


def _written(name: str) -> bytes:
    labels = canonical(name).encode("idna" if not name.isascii() else "ascii").split(b".")
    if not all(0 < len(label) <= 63 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise ValueError("it is not a host name")
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\x00"


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name that stands at ``at``, and where it ends. Pointers lead backwards only, so this ends."""
    labels: list[bytes] = []
    end, size = -1, 0
    while True:
        if at >= len(message):
            raise MalformedAnswerError("cut off")
        length = message[at]
        if length & 0xC0 == 0xC0:
            if at + 1 >= len(message):
                raise MalformedAnswerError("cut off")
            target = (length & 0x3F) << 8 | message[at + 1]
            if target >= at:
                raise MalformedAnswerError("a name points forwards")
            end = at + 2 if end < 0 else end
            at = target
            continue
        if length & 0xC0:
            raise MalformedAnswerError("a name has an unknown form")
        at += 1
        if length == 0:
            break
        labels.append(message[at : at + length])
        at += length
        size += length + 1
        if at > len(message) or size > 255:
            raise MalformedAnswerError("a name is too long")
    return b".".join(labels).decode("ascii", "replace").lower(), at if end < 0 else end
