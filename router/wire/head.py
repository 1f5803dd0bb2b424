"""Heads of HTTP/1.1 messages: strict checks in front of httptools, and each distinct head is read only once.

llhttp is lenient in places where two parsers can then disagree about where a message ends. A head with bare CR or LF,
NUL, folded lines, HTTP/0.9 or doubtful framing headers is refused before any of it is interpreted.

A client sends the same head again and again, except for its content-length; so does a backend. Such a head is looked up
by its bytes, and the result of the first reading is shared: checks, parsing, and everything that other rooms derive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar

import httptools

_PORT = rb"(?:[0-9]{0,4}|[1-5][0-9]{4}|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5]))))"
#: Without the comma: it would admit a list of hosts.
_HOST_PORT = rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[(?=[^\]]*:[^\]]*:)[0-9A-Fa-f:.]{2,45}\])(?::" + _PORT + rb")?"
_URI = rb"[A-Za-z0-9._~%!$&'()*+,;=:@/?\[\]-]"
#: The four forms of a request target (RFC 9112 3.2), each with the methods that may use it.
_REQUEST_LINE = re.compile(
    rb"(?:[A-Z]{1,20} (?:(?i:https?)://" + _HOST_PORT + rb")?(?:/" + _URI + rb"{0,8191})?(?<! )"
    rb"|OPTIONS \*|CONNECT " + _HOST_PORT + rb") HTTP/1\.[01]\r\n"
)
_REQUEST_LINE_BYTES = 8192 + 32
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_NAME = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELDS = re.compile(rb"(?:" + _NAME + rb":[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n")
_HOST = re.compile(_HOST_PORT)
_DIGITS = re.compile(rb"[0-9]{1,18}")
_DIGITS_MAX = 18

#: Headers that may stand only once in a request: where a message ends and goes must be said once …
_FRAMING = frozenset({b"host", b"content-length", b"transfer-encoding", b"expect"})
#: … and these must not say two things. The same line twice, as some proxies and clients send it, is one.
_REPEATABLE = frozenset({b"authorization", b"content-type", b"x-api-key", b"api-key"})
_SINGLE = _FRAMING | _REPEATABLE
#: A head with one of these is different each time: to remember it would push out heads that repeat.
_UNIQUE = frozenset({b"x-request-id", b"traceparent", b"idempotency-key", b"x-amzn-trace-id"})
_REMEMBERED_HEADS = 1024
_REMEMBERED_HEAD_BYTES = 4096
_ANSWER_BEGINNING = b"HTTP/1."
#: The end of ``content-length: `` in every usual spelling.
_LENGTH_MARK = b"ength: "
#: The end of a head.
HEAD_END = b"\r\n\r\n"


class HeadError(Exception):
    """The head is not strict HTTP/1.1, or its framing is doubtful. ``code`` is one of router.errors."""

    def __init__(self, detail: str, code: str = "invalid_request") -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Headers(list[tuple[bytes, bytes]]):
    """The headers of an answer in their order, names in lower case. Shared by all answers with the same head."""

    __slots__ = ("meaning",)

    def __init__(self) -> None:
        super().__init__()
        self.meaning: Any = None  # derived from them by the reader of the answer


class Framing(Enum):
    """The ways in which a message says where its body ends."""

    NONE = "none"  # the message has no body
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"  # the connection's end ends the body


@dataclass(slots=True, eq=False)
class RequestHead:
    """Header names are in lower case; repeated headers are joined with a comma. Shared, so never altered."""

    method: bytes
    target: bytes
    http11: bool
    headers: dict[bytes, bytes]
    keep_alive: bool
    chunked: bool = False
    expects: bool = False  # a 100 Continue
    meaning: Any = None  # derived from it by the handler


@dataclass(slots=True, eq=False)
class AnswerHead:
    """Shared, so never altered."""

    status: int
    headers: Headers
    framing: Framing
    keep_alive: bool


H = TypeVar("H")


class _Reader(Generic[H]):
    """Reads heads, and remembers them by their bytes without the digits of their content-length."""

    def __init__(self) -> None:
        self._known: dict[bytes, H] = {}

    def read(self, raw: bytes) -> tuple[H, int]:
        """The head up to and with its empty line, and the content-length, 0 if there is none. Raises HeadError."""
        before, mark, after = raw.partition(_LENGTH_MARK)
        digits, _, rest = after.partition(b"\r")
        key = before + mark + rest
        head = self._known.get(key)
        if head is not None and digits.isdigit() and len(digits) <= _DIGITS_MAX:
            return head, int(digits)
        if not mark:
            return (head, 0) if head is not None else self._read_anew(raw, raw)
        name = before[before.rfind(b"\n") + 1 :] + mark
        return self._read_anew(raw, key if name.lower() == b"content-length: " else None)

    def _read_anew(self, raw: bytes, key: bytes | None) -> tuple[H, int]:
        """``key``: the bytes to remember the head by. None: more than its content-length was cut out."""
        head, headers, length = self._parse(raw)
        whole = key is raw and length is not None  # a content-length in an unusual spelling is part of this key
        if key is not None and not whole and len(key) <= _REMEMBERED_HEAD_BYTES and _UNIQUE.isdisjoint(headers):
            if len(self._known) >= _REMEMBERED_HEADS:
                self._known.clear()
            self._known[key] = head
        return head, length or 0

    def _parse(self, raw: bytes) -> tuple[H, dict[bytes, bytes], int | None]:
        raise NotImplementedError


@dataclass(slots=True)
class _Fields:
    """Collects the fields that httptools finds in one head (its protocol)."""

    target: bytes = b""
    listed: Headers = field(default_factory=Headers)
    complete: bool = False

    def on_url(self, url: bytes) -> None:
        self.target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.listed.append((name.lower(), value.rstrip(b" \t")))  # httptools leaves tabs at the end

    def on_headers_complete(self) -> None:
        self.complete = True

    def drop_equal_lines(self) -> None:
        """Drop a line that repeats an earlier one of a header with a single value. Lists keep theirs."""
        seen: set[tuple[bytes, bytes]] = set()
        kept = Headers()
        for line in self.listed:
            if line not in seen or line[0] not in _REPEATABLE:
                kept.append(line)
            seen.add(line)
        self.listed = kept

    def joined(self) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        for name, value in self.listed:
            headers[name] = value if name not in headers else headers[name] + b", " + value
        return headers


class RequestHeads(_Reader[RequestHead]):
    """Reads the heads of requests."""

    def __init__(self, headers_max: int) -> None:
        super().__init__()
        self._headers_max = headers_max

    def _parse(self, raw: bytes) -> tuple[RequestHead, dict[bytes, bytes], int | None]:
        if _FIELDS.fullmatch(raw, check_request_line(raw)) is None:
            raise HeadError("The request is not strict HTTP/1.1: malformed header.")
        fields = _Fields()
        try:
            httptools.HttpRequestParser(fields).feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # an upgrade is never taken: it stays an ordinary request
        except httptools.HttpParserError:
            raise HeadError("The request is not strict HTTP/1.1.") from None
        if len(fields.listed) > self._headers_max:
            raise HeadError(f"More than {self._headers_max} headers.", "headers_too_large")
        fields.drop_equal_lines()
        headers = fields.joined()
        if len(headers) < len(fields.listed):
            names = [name for name, _ in fields.listed]
            if any(names.count(name) > 1 for name in _SINGLE.intersection(names)):
                raise HeadError("A header that must stand once is repeated.")
        http11 = raw[raw.find(b"\r") - 1] == ord("1")
        options = connection_options(headers)
        head = RequestHead(
            raw[: raw.find(b" ")],
            fields.target,
            http11,
            headers,
            keep_alive=b"close" not in options and (http11 or b"keep-alive" in options),
        )
        return head, headers, _frame_request(head)


def _frame_request(head: RequestHead) -> int | None:
    """Note how the body is delimited; return its content-length. Raises HeadError."""
    headers = head.headers
    host = headers.get(b"host")
    if (host is None and head.http11) or (
        host is not None and (_HOST.fullmatch(host) is None or _BAD_ESCAPE.search(host))
    ):
        raise HeadError("The Host header is missing or malformed.")
    length, encoding, expect = (headers.get(n) for n in (b"content-length", b"transfer-encoding", b"expect"))
    if encoding is not None:
        if length is not None or not head.http11 or encoding.lower() != b"chunked":
            raise HeadError("The framing of the body is ambiguous.")
        head.chunked = True
    if expect is not None:
        if expect.lower() != b"100-continue":
            raise HeadError("The expectation cannot be met.")
        head.expects = head.http11
    if length is None:
        return None
    if _DIGITS.fullmatch(length) is None:
        raise HeadError("Content-Length is not a number.")
    return int(length)


class AnswerHeads(_Reader[AnswerHead]):
    """Reads the heads of answers."""

    def _parse(self, raw: bytes) -> tuple[AnswerHead, dict[bytes, bytes], int | None]:
        line = _STATUS_LINE.match(raw)
        if line is None or _FIELDS.fullmatch(raw, line.end()) is None:
            raise HeadError("malformed answer")
        fields = _Fields()
        parser = httptools.HttpResponseParser(fields)
        try:
            parser.feed_data(raw)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise HeadError("malformed answer") from None
        if not fields.complete:
            raise HeadError("malformed answer")
        status = parser.get_status_code()
        http11 = raw.startswith(b"HTTP/1.1")
        framing, length = _frame_answer(status, http11, fields.listed)
        headers = fields.joined()
        options = connection_options(headers)
        keep_alive = b"close" not in options and (http11 or b"keep-alive" in options)
        if framing is Framing.CLOSE or (framing is Framing.NONE and (length or b"transfer-encoding" in headers)):
            keep_alive = False  # a body may follow where there is none
        return AnswerHead(status, fields.listed, framing, keep_alive), headers, length


def _frame_answer(status: int, http11: bool, headers: Headers) -> tuple[Framing, int | None]:
    """Return the framing of the body and its content-length. Raises HeadError."""
    lengths = [value for name, value in headers if name == b"content-length"]
    encodings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if lengths and (len(lengths) > 1 or encodings or _DIGITS.fullmatch(lengths[0]) is None):
        raise HeadError("ambiguous framing")
    length = int(lengths[0]) if lengths else None
    if status < 200 or status in (204, 304):
        if encodings and status != 304:
            raise HeadError("an encoding where no body may be")
        return Framing.NONE, length
    if encodings:
        if encodings != [b"chunked"] or not http11:
            raise HeadError("ambiguous framing")
        return Framing.CHUNKED, None
    return (Framing.CLOSE if length is None else Framing.LENGTH), length


def check_request_line(data: bytes) -> int:
    """Return the end of the request line, its line end included. Raises HeadError."""
    line = _REQUEST_LINE.match(data)
    if line is not None and _BAD_ESCAPE.search(data, 0, line.end()) is None:
        return line.end()
    if len(data) > _REQUEST_LINE_BYTES and data.find(b"\r\n", 0, _REQUEST_LINE_BYTES) < 0:
        raise HeadError("The request line is longer than 8192 bytes.", "target_too_long")
    raise HeadError("The request is not strict HTTP/1.1: malformed request line.")


def check_beginning(data: bytes) -> None:
    """Refuse the beginning of a request head that no continuation can make strict. Raises HeadError."""
    if b"\r\n" in data or len(data) > _REQUEST_LINE_BYTES:
        check_request_line(data)
    if _odd_line_ends(data):
        raise HeadError("The request is not strict HTTP/1.1: malformed header.")


def answer_may_begin_with(data: bytes) -> bool:
    """The beginning of an answer's head can still become a strict one."""
    return data.startswith(_ANSWER_BEGINNING[: len(data)]) and not _odd_line_ends(data)


def _odd_line_ends(data: bytes) -> bool:
    """There is a line feed or carriage return that stands alone, or a NUL. Counting is faster than any pattern."""
    ends = data.count(b"\r\n")
    return data.count(b"\n") != ends or data.count(b"\r") - data.endswith(b"\r") != ends or b"\0" in data


def connection_options(headers: dict[bytes, bytes]) -> frozenset[bytes]:
    """The words of the Connection header in lower case: ``close``, ``keep-alive``, names of hop-by-hop headers."""
    value = headers.get(b"connection")
    return frozenset(option.strip(b" \t").lower() for option in value.split(b",")) if value else frozenset()
