"""Where the members of a JSON object stand, found without decoding what is in them. Linear, and in steps.

Strings, nesting and UTF-8 are checked; the grammar of what is passed over is the engine's to judge. Strings are leapt
over with ``bytes.find``; brackets are counted between them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection
from itertools import accumulate, compress, count

import orjson

from router.gateway.steps import LEAP_BYTES, STEP_BYTES, Body, Steps

Span = tuple[int, int]

#: Python's own JSON, and with it most engines, gives up at about this depth.
DEPTH_MAX = 1000
#: No request of these APIs has as many.
MEMBERS_MAX = 1000
_STEP_MEMBERS = 64
_KEY_BYTES_MAX = 256
_BACKSLASH, _QUOTE, _COMMA, _OPEN, _CLOSE = b'\\",{}'
_SPACE = re.compile(rb"[ \t\r\n]*")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]{1,4096}")


class MalformedError(ValueError):
    """This is no JSON object."""


class TooDeepError(MalformedError):
    """Its brackets are nested too deeply."""


def checked_text(body: Body) -> Steps[None]:
    """Raises UnicodeDecodeError if the body is not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(body)
    for at in range(0, len(body), LEAP_BYTES):
        piece = bytes(view[at : at + LEAP_BYTES])
        if not piece.isascii() or decoder.getstate()[0]:
            for begin in range(0, len(piece), LEAP_BYTES // 4):  # slower, and makes text of it
                decoder.decode(piece[begin : begin + LEAP_BYTES // 4])
                yield LEAP_BYTES // 4
        else:
            yield len(piece)
    decoder.decode(b"", final=True)


def members(body: Body, names: Collection[str]) -> Steps[dict[str, list[Span]]]:
    """The spans of the values that the top level gives to ``names``, in their order. Raises MalformedError."""
    scan = _Scan(body)
    found: dict[str, list[Span]] = {}
    if (yield from scan.after_space()) != _OPEN:
        raise MalformedError("no object")
    scan.at += 1
    last = yield from scan.after_space()
    number, yielded = 0, 0
    while last != _CLOSE or number:
        if last != _QUOTE:
            raise MalformedError("no key")
        begin = scan.at
        yield from scan.string()
        name = scan.name(begin)
        if (yield from scan.after_space()) != 58:  # a colon
            raise MalformedError("no value")
        scan.at += 1
        yield from scan.after_space()
        begin = scan.at
        yield from scan.value()
        if name is not None and name in names:
            found.setdefault(name, []).append((begin, scan.at))
        number += 1
        if number > MEMBERS_MAX:
            raise MalformedError("too many members")
        if number % _STEP_MEMBERS == 0 or scan.at - yielded >= STEP_BYTES:
            yield min(scan.at - yielded, STEP_BYTES)
            yielded = scan.at
        last = yield from scan.after_space()
        if last == _CLOSE:
            break
        if last != _COMMA:
            raise MalformedError("neither another member nor an end")
        scan.at += 1
        last = yield from scan.after_space()
    scan.at += 1
    if (yield from scan.after_space()) >= 0:
        raise MalformedError("more than an object")
    return found


def string_end(body: Body, at: int) -> Steps[int]:
    """The place of the quote that ends the string whose first byte is at ``at``. Raises MalformedError."""
    begin, size = at, 256
    while True:
        quote = body.find(b'"', at, at + LEAP_BYTES)
        if quote < 0:
            at += LEAP_BYTES
            if at >= len(body):
                raise MalformedError("a string without an end")
            yield LEAP_BYTES
            continue
        if body[quote - 1] != _BACKSLASH or not (yield from _is_escaped(body, begin, quote)):
            return quote
        # Where one quote is escaped, more will be: what follows it is read with its escapes undone, ever more at once.
        piece = _without_escapes(bytes(body[quote + 1 : quote + 1 + size]))
        close = piece.find(b'"')
        if close >= 0:
            return quote + 1 + close
        at = quote + 1 + len(piece) - piece.endswith(b"\\")
        if size == STEP_BYTES:
            yield size
        size = min(8 * size, STEP_BYTES)


def strings_in(body: Body, span: Span) -> Steps[int]:
    """How many strings stand in there."""
    quotes, (at, end) = 0, span
    while at < end:
        piece = _without_escapes(bytes(body[at : min(at + STEP_BYTES, end)]))
        if piece.endswith(b"\\") and len(piece) > 1:
            piece = piece[:-1]  # half of what it escapes is missing
        quotes += piece.count(b'"')
        at += len(piece)
        yield len(piece)
    return quotes // 2


def _is_escaped(body: Body, begin: int, quote: int) -> Steps[bool]:
    """Whether an odd number of backslashes stands before the quote."""
    count, at, size = 0, quote, 64
    while at > begin:
        piece = bytes(body[max(begin, at - size) : at])
        run = len(piece) - len(piece.rstrip(b"\\"))
        count += run
        if run < len(piece):
            break
        at -= len(piece)
        if size == STEP_BYTES:
            yield size
        size = min(8 * size, STEP_BYTES)
    return count % 2 == 1


def _without_escapes(piece: bytes) -> bytes:
    """The same length, and every quote that is left begins or ends a string. ``piece`` begins with no half escape."""
    return piece.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in piece else piece


class _Scan:
    """A place in a body, moved over one thing after the other."""

    __slots__ = ("_body", "_view", "at")

    def __init__(self, body: Body) -> None:
        self._body = body
        self._view = memoryview(body)
        self.at = 0

    def after_space(self) -> Steps[int]:
        """The next byte that is no white space, -1 at the end. The place is there then."""
        body = self._body
        while True:
            match = _SPACE.match(body, self.at, self.at + STEP_BYTES)
            assert match is not None
            passed = match.end() - self.at
            self.at = match.end()
            if passed < STEP_BYTES:
                return body[self.at] if self.at < len(body) else -1
            yield passed

    def name(self, begin: int) -> str | None:
        """The string that begins there and ends here; None for a long one."""
        if self.at - begin > _KEY_BYTES_MAX:
            return None
        raw = bytes(self._view[begin : self.at])
        try:
            name: str = orjson.loads(raw) if b"\\" in raw else raw[1:-1].decode()
        except ValueError:
            return None
        return name

    def string(self) -> Steps[None]:
        """Over a string, from quote to quote."""
        self.at = 1 + (yield from string_end(self._body, self.at + 1))

    def value(self) -> Steps[None]:
        first = self._body[self.at] if self.at < len(self._body) else 0
        if first == _QUOTE:
            yield from self.string()
        elif first in b"{[":
            yield from self._nested()
        else:
            match = _SCALAR.match(self._body, self.at)
            if match is None:
                raise MalformedError("no value")
            self.at = match.end()

    def _nested(self) -> Steps[None]:
        """Over an object or an array, to behind its end."""
        depth = 0
        while True:
            piece = bytes(self._view[self.at : self.at + STEP_BYTES])
            if not piece:
                raise MalformedError("an object or array without an end")
            parts = _without_escapes(piece).split(b'"')
            depths = list(accumulate(map(_deeper.__getitem__, parts[::2]), initial=depth))[1:]
            if max(depths) > DEPTH_MAX:
                raise TooDeepError("nested too deeply")
            if min(depths) <= 0:
                number = next(compress(count(), map((0).__ge__, depths)))
                outside = parts[2 * number]
                self.at += sum(map(len, parts[: 2 * number])) + 2 * number
                self.at += _behind_end(outside, depths[number] - _deeper[outside])
                return
            depth = depths[-1]
            if len(parts) % 2:
                self.at += len(piece)
            else:  # it was cut in a string
                self.at += len(piece) - len(parts[-1])
                self.at = 1 + (yield from string_end(self._body, self.at))
            yield len(piece)


#: An opening bracket is 1, a closing one -1 as a signed byte, everything else 0.
_BRACKETS = bytes(1 if byte in b"{[" else 255 if byte in b"}]" else 0 for byte in range(256))


class _Deeper(dict[bytes, int]):
    """How many more brackets are open after what stands between two strings. The few usual ones are remembered."""

    def __missing__(self, outside: bytes) -> int:
        count = outside.count
        opened = count(b"{") + count(b"[")
        if opened > DEPTH_MAX and max(accumulate(memoryview(outside.translate(_BRACKETS)).cast("b"))) > DEPTH_MAX:
            raise TooDeepError("nested too deeply")
        more = opened - count(b"}") - count(b"]")
        if len(outside) <= 16 and len(self) < 1024:
            self[outside] = more
        return more


_deeper = _Deeper()


def _behind_end(outside: bytes, depth: int) -> int:
    """Where in it the last open bracket is closed; ``depth`` were open before."""
    depths = accumulate(memoryview(outside.translate(_BRACKETS)).cast("b"), initial=depth)
    next(depths)
    for behind in compress(count(1), map((0).__eq__, depths)):
        return behind
    raise MalformedError("brackets do not match")
