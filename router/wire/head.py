"""Strict checks of HTTP/1.1 heads, in front of and beside httptools.

llhttp is lenient in places where leniency lets two parsers disagree about where a message ends. What is refused here
is refused before a byte of it is interpreted: bare CR or LF, NUL, folded lines, HTTP/0.9, doubtful framing headers.
"""

from __future__ import annotations

import re

#: RFC 9110 7.6.1, and what old proxies treat alike. Never forwarded in either direction.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_REQUEST_LINE = re.compile(rb"[A-Z]{1,20} [!-~]{1,8192} HTTP/1\.[01]\r\n")
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELDS = re.compile(rb"(?:" + _NAME + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_DIGITS = re.compile(rb"[0-9]{1,18}")


def head_problem(head: bytes) -> str | None:
    """Why this request head (up to and with its empty line) is not strict HTTP/1.x, or None."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        return "malformed request line"
    if _FIELDS.fullmatch(head, line.end()) is None:
        return "malformed header"
    return None


def host_ok(host: bytes) -> bool:
    return _HOST.fullmatch(host) is not None


def content_length(value: bytes) -> int | None:
    """The number, or None if it is anything but plain digits."""
    return int(value) if _DIGITS.fullmatch(value) else None
