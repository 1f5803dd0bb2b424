"""Why a connection could not be made, in plain words; above all whose fault it is."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from router.core.outcomes import Outcome
from router.upstream.pool import ConnectError
from router.wire.names import UnknownNameError
from router.wire.sockets import SHORTAGE
from router.wire.trouble import Kind, trouble_of


def unverified(code: int, text: str = "x") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, text)
    error.verify_code, error.verify_message = code, text
    return error


def handshake(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


OWN = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL]
THEIRS = [errno.ECONNREFUSED, errno.ETIMEDOUT, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EPIPE]


@pytest.mark.parametrize("number", OWN)
def test_shortages_of_ours_are_ours_however_they_come(number: int) -> None:
    plain = OSError(number, os.strerror(number))
    refused = OSError(errno.ECONNREFUSED, "refused")
    wrapped = RuntimeError("x")
    wrapped.__cause__ = plain
    carried = RuntimeError("x")
    carried.os_error = plain  # type: ignore[attr-defined]  # as aiohttp does
    several = OSError(f"Multiple exceptions: [Errno 111] Connect call failed, [Errno {number}] x")
    for error in (plain, wrapped, carried, several, ExceptionGroup("x", [refused, plain])):
        assert trouble_of(error).kind is Kind.OWN
        assert ConnectError.of(error).outcome is Outcome.OWN_SHORTAGE
        assert ConnectError.of(error).status == 503


def test_they_are_those_that_the_listener_knows() -> None:
    assert set(OWN) == SHORTAGE


@pytest.mark.parametrize("number", THEIRS)
def test_all_else_is_about_the_backend(number: int) -> None:
    error = OSError(number, os.strerror(number))
    assert trouble_of(error).kind is not Kind.OWN
    assert ConnectError.of(error).outcome is Outcome.UNREACHABLE


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Kind.REFUSED, "connection refused"),
        (TimeoutError(), Kind.TIMEOUT, "timed out"),
        (socket.gaierror(socket.EAI_NONAME, "x"), Kind.NAME, "cannot be resolved"),
        (socket.gaierror(socket.EAI_MEMORY, "x"), Kind.OWN, "memory"),
        (UnknownNameError("x"), Kind.NAME, "cannot be resolved"),
        (MemoryError(), Kind.OWN, "memory"),
        (ConnectionResetError(errno.ECONNRESET, "x"), Kind.CLOSED, "reset"),
        (OSError(errno.EHOSTUNREACH, "x"), Kind.UNREACHABLE, "no route to host"),
        (OSError("Multiple exceptions: [Errno 111] x, [Errno 113] y"), Kind.REFUSED, "refused"),
        (OSError("no number"), Kind.UNREACHABLE, "no connection"),
        (unverified(10), Kind.TLS, "has expired"),
        (unverified(9), Kind.TLS, "not valid yet"),
        (unverified(18), Kind.TLS, "self-signed"),
        (unverified(19), Kind.TLS, "unknown authority"),
        (unverified(20), Kind.TLS, "unknown authority"),
        (unverified(62), Kind.TLS, "another name"),
        (unverified(64), Kind.TLS, "not for the address"),
        (unverified(23), Kind.TLS, "revoked"),
        (unverified(99, "strange thing"), Kind.TLS, "strange thing"),
        (handshake("WRONG_VERSION_NUMBER"), Kind.TLS, "does not speak TLS"),
        (handshake("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Kind.TLS, "wants a client certificate"),
        (handshake("SOMETHING_NEW"), Kind.TLS, "something new"),
        (ssl.SSLEOFError(8, "EOF"), Kind.TLS, "closed the connection"),
    ],
)
def test_words(error: BaseException, kind: Kind, words: str) -> None:
    trouble = trouble_of(error)
    assert trouble.kind is kind
    assert words in trouble.text


def test_what_aiohttp_wraps_is_unwrapped() -> None:
    key = ConnectionKey("engine", 443, True, True, None, None, None)
    certificate = aiohttp.ClientConnectorCertificateError(key, unverified(10))
    assert trouble_of(certificate).text == "TLS failed: its certificate has expired"
    assert trouble_of(aiohttp.ClientConnectorSSLError(key, handshake("WRONG_VERSION_NUMBER"))).kind is Kind.TLS
    assert (
        "does not speak TLS" in trouble_of(aiohttp.ClientConnectorSSLError(key, handshake("WRONG_VERSION_NUMBER"))).text
    )
    refused = aiohttp.ClientConnectorError(key, ConnectionRefusedError(errno.ECONNREFUSED, "x"))
    assert trouble_of(refused).kind is Kind.REFUSED
    assert trouble_of(aiohttp.ClientConnectorError(key, OSError(errno.EMFILE, "x"))).kind is Kind.OWN


def test_a_circle_of_causes_ends() -> None:
    one, two = RuntimeError("1"), RuntimeError("2")
    one.__cause__, two.__cause__ = two, one
    assert trouble_of(one).kind is Kind.UNREACHABLE
