"""Says in plain words why a connection could not be made, from the exceptions of sockets, names and TLS.

Requests and probes both use it. The words name no address: they go into logs, to operators and to clients.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from router.wire.names import UnknownNameError


class Kind(Enum):
    OWN = "own"  # this process or machine has run out of something: says nothing about the other side
    REFUSED = "refused"  # nobody listens there: certain at once
    NAME = "name"  # the host name cannot be resolved
    TLS = "tls"
    TIMEOUT = "timeout"
    CLOSED = "closed"  # it was there and hung up
    UNREACHABLE = "unreachable"


class Trouble(NamedTuple):
    kind: Kind
    text: str


_OWN = {
    errno.EMFILE: "this router has no file descriptor left",
    errno.ENFILE: "this machine has no file descriptor left",
    errno.ENOBUFS: "this machine has no memory left for sockets",
    errno.ENOMEM: "this machine has no memory left",
    errno.EADDRNOTAVAIL: "this machine has no local port or address left for it",
}
_PLAIN = {
    errno.ECONNREFUSED: Trouble(Kind.REFUSED, "connection refused"),
    errno.ETIMEDOUT: Trouble(Kind.TIMEOUT, "no connection: timed out"),
    errno.ECONNRESET: Trouble(Kind.CLOSED, "the connection was reset"),
    errno.EPIPE: Trouble(Kind.CLOSED, "the connection was closed"),
    errno.ECONNABORTED: Trouble(Kind.CLOSED, "the connection was closed"),
}
_NO_NAME = Trouble(Kind.NAME, "the host name cannot be resolved")
_OF_NAMES = {socket.EAI_MEMORY: Trouble(Kind.OWN, "this machine has no memory left")}

#: OpenSSL's X509_V_ERR_*: why a certificate was not accepted.
_CERTIFICATE = {
    2: "its issuer's certificate is missing",
    3: "its issuer's revocation list is missing",
    7: "the signature of its certificate is wrong",
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    12: "its issuer's revocation list has expired",
    18: "its certificate is self-signed",
    19: "its certificate comes from an unknown authority: the root of its chain is self-signed and not trusted here",
    20: "its certificate comes from an unknown authority",
    21: "its certificate comes from an unknown authority, or an intermediate certificate is missing",
    22: "its chain of certificates is too long",
    23: "its certificate is revoked",
    24: "a certificate of its chain may not issue certificates",
    26: "its certificate is not made for servers",
    27: "its authority is not trusted for servers",
    62: "its certificate is for another name than the one in its url",
    64: "its certificate is not for the address in its url",
    66: "the key of its certificate is too short",
    67: "the key of its authority is too short",
    68: "a certificate of its chain is signed with a method that is too weak",
}
#: OpenSSL's reason -> words, for all other failures of a handshake
_HANDSHAKE = {
    "WRONG_VERSION_NUMBER": "what listens there does not speak TLS",
    "HTTP_REQUEST": "what listens there does not speak TLS",
    "UNSUPPORTED_PROTOCOL": "it speaks only versions of TLS that are too old",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not accept our version of TLS",
    "NO_PROTOCOLS_AVAILABLE": "it shares no version of TLS with us",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refuses the handshake: no common cipher, or it wants a client certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate",
    "TLSV1_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our client certificate has expired, it says",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our client certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "our client certificate is revoked, it says",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the authority of our client certificate",
    "TLSV1_ALERT_ACCESS_DENIED": "it does not let our client certificate in",
    "TLSV1_UNRECOGNIZED_NAME": "it does not know the host name that is in its url",
    "TLSV1_ALERT_INTERNAL_ERROR": "it reports an error of its own",
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection during the handshake",
}
_ERRNO = re.compile(r"\[Errno (\d+)\]")


def trouble_of(error: BaseException) -> Trouble:
    """What ``error`` means, whatever it is wrapped in."""
    causes = list(_causes(error))
    # The inner exception tells more: aiohttp's own are of ssl's classes, without their contents.
    known = [trouble for cause in reversed(causes) if (trouble := _read(cause)) is not None]
    # A shortage of ours makes every other error doubtful: several addresses may have been tried.
    own = next((trouble for trouble in known if trouble.kind is Kind.OWN), None)
    return own or (known[0] if known else Trouble(Kind.UNREACHABLE, "no connection"))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those inside it: aiohttp and groups carry the real one."""
    pending, seen = [error], set[int]()
    while pending:
        cause = pending.pop(0)
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inside = [getattr(cause, name, None) for name in ("certificate_error", "os_error", "__cause__")]
        if isinstance(cause, BaseExceptionGroup):
            inside += cause.exceptions
        pending += [other for other in inside if isinstance(other, BaseException)]


def _read(error: BaseException) -> Trouble | None:
    if isinstance(error, ssl.SSLError):
        return Trouble(Kind.TLS, f"TLS failed: {_tls(error)}")
    if isinstance(error, ssl.CertificateError):
        return Trouble(Kind.TLS, f"TLS failed: {_CERTIFICATE[62]}")
    if isinstance(error, UnknownNameError):
        return _NO_NAME
    if isinstance(error, socket.gaierror):
        return _OF_NAMES.get(error.errno or 0, _NO_NAME)
    if isinstance(error, TimeoutError):
        return _PLAIN[errno.ETIMEDOUT]
    if isinstance(error, OSError):
        return _socket(error)
    return Trouble(Kind.OWN, _OWN[errno.ENOMEM]) if isinstance(error, MemoryError) else None


def _socket(error: OSError) -> Trouble | None:
    # asyncio puts the failures of several addresses into the text of one exception
    numbers = [error.errno] if error.errno else [int(number) for number in _ERRNO.findall(str(error))]
    for number in numbers:
        if number in _OWN:
            return Trouble(Kind.OWN, _OWN[number])
    for number in numbers:
        if number in _PLAIN:
            return _PLAIN[number]
        return Trouble(Kind.UNREACHABLE, f"no connection: {os.strerror(number).lower()}")
    return None


def _tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        known = _CERTIFICATE.get(getattr(error, "verify_code", 0))
        return (
            known or f"its certificate is not accepted ({getattr(error, 'verify_message', None) or 'unknown reason'})"
        )
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLEOFError):
        reason = "UNEXPECTED_EOF_WHILE_READING"
    return _HANDSHAKE.get(reason) or (reason.lower().replace("_", " ") or "the handshake broke off")
