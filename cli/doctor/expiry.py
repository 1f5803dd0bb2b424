"""Reads from a certificate when it ends: DER as RFC 5280 has it, as far as the validity. The standard library reads
certificates of authorities only."""

from __future__ import annotations

import calendar
import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC, _GENERALIZED = 0x30, 0xA0, 0x17, 0x18


def ends_s(path: str) -> float:
    """When the first of the certificates of a PEM file ends. Raises ValueError, and OSError."""
    found = _PEM.findall(Path(path).read_text("ascii", "replace"))
    if not found:
        raise ValueError("it holds no certificate")
    return min(not_after_s(ssl.PEM_cert_to_DER_cert(pem)) for pem in found)


def not_after_s(der: bytes) -> float:
    """The end of one certificate, in seconds since 1970. Raises ValueError."""
    try:
        (_, certificate) = next(_parts(der))
        (_, to_be_signed) = next(_parts(certificate))
        parts = list(_parts(to_be_signed))
        if parts[0][0] == _VERSION:
            parts = parts[1:]
        tag, validity = parts[3]  # after serial number, algorithm and issuer
        if tag != _SEQUENCE:
            raise ValueError("no validity where it should be")
        _, (kind, raw) = list(_parts(validity))[:2]
        return _moment_s(kind, raw.decode("ascii"))
    except (IndexError, StopIteration, UnicodeDecodeError) as error:
        raise ValueError("it is not a certificate") from error


def _parts(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element. Raises ValueError for one that is cut off."""
    at = 0
    while at < len(der):
        tag, length = der[at], der[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(der[at : at + size], "big")
            at += size
        if at + length > len(der):
            raise ValueError("it is cut off")
        yield tag, der[at : at + length]
        at += length


def _moment_s(kind: int, text: str) -> float:
    """RFC 5280: both forms are in UTC and have seconds; two digits of a year mean 1950 to 2049."""
    if kind == _UTC:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif kind != _GENERALIZED:
        raise ValueError("it has no end")
    return float(calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ")))
