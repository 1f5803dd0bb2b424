"""The strict decoder of chunked request bodies: plain hex sizes, CRLF only, bounded lines, trailers dropped."""

from __future__ import annotations

import re
from enum import Enum

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:" + _EXTENSION + rb")*")
#: Any trailer except those that say where a message ends or goes: another server might believe them (RFC 9110 6.5.1).
_TRAILER = re.compile(rb"(?!(?i:content-length|transfer-encoding|host):)" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")
_LINE_LIMIT_BYTES = 4096
_TRAILERS_LIMIT_BYTES = 8192
#: Framing may be larger than the body by this much (Go: 16 KiB), not counting a few bytes for each chunk.
_EXCESS_LIMIT_BYTES = 16 * 1024
_CHUNK_FREE_BYTES = 16
#: A chunk has three parts: its size, its bytes, and their end.
_STEPS_MAX = 3 * 400


class ChunkedError(ValueError):
    """The framing is not strict; the connection must be closed."""


class _State(Enum):
    SIZE = "size"
    DATA = "data"
    DATA_END = "data_end"
    TRAILERS = "trailers"


class ChunkedDecoder:
    """Feed bytes, get the ``body`` so far. Once it is ``done``, ``take_rest`` has what follows the body.

    One call takes a limited number of parts. After that ``stopped`` is true, and the rest is to be fed again later.
    """

    __slots__ = (
        "_buffer",
        "_excess_bytes",
        "_need_bytes",
        "_pos",
        "_state",
        "_trailers_bytes",
        "body",
        "done",
        "framing_bytes",
        "stopped",
    )

    def __init__(self) -> None:
        self._buffer = b""
        self._pos = 0  # a cursor: slicing the buffer per chunk would make tiny chunks quadratic
        self._state = _State.SIZE
        self._need_bytes = 0
        self._trailers_bytes = 0
        self._excess_bytes = 0  # of size lines, beyond what the chunks themselves bring
        self.done = self.stopped = False
        self.framing_bytes = 0
        self.body = bytearray()  # a list of pieces would cost many times the bytes of tiny chunks

    def take_rest(self) -> bytes:
        """The bytes that were fed and not decoded: they follow the body, or are to be fed again."""
        rest, self._buffer = self._buffer, b""
        return rest

    @property
    def announced_bytes(self) -> int:
        """The body so far, and the rest of the chunk that is arriving."""
        return len(self.body) + self._need_bytes

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        self._pos = 0
        self.stopped = True
        for _ in range(_STEPS_MAX):
            if self.done or not self._step():
                self.stopped = False
                break
        self._buffer = self._buffer[self._pos :]

    def _step(self) -> bool:
        """Take the next part; false when more bytes are needed."""
        if self._state is _State.DATA:
            return self._data()
        line = self._line()
        if line is None:
            return False
        if self._state is _State.DATA_END:
            if line:
                raise ChunkedError("a chunk is longer than its size")
            self._state = _State.SIZE
        elif self._state is _State.SIZE:
            match = _SIZE_LINE.fullmatch(line)
            if match is None:
                raise ChunkedError("a malformed chunk size")
            self._need_bytes = int(match.group(1), 16)
            excess_bytes = self._excess_bytes + len(line) - _CHUNK_FREE_BYTES - self._need_bytes
            if excess_bytes > _EXCESS_LIMIT_BYTES:
                raise ChunkedError("more framing than body")
            self._excess_bytes = max(0, excess_bytes)
            self._state = _State.DATA if self._need_bytes else _State.TRAILERS
        elif not line:
            self.done = True
        else:
            self._trailers_bytes += len(line)
            if self._trailers_bytes > _TRAILERS_LIMIT_BYTES or _TRAILER.fullmatch(line) is None:
                raise ChunkedError("malformed trailers")
        return True

    def _data(self) -> bool:
        piece = self._buffer[self._pos : self._pos + self._need_bytes]
        if not piece:
            return False
        self._pos += len(piece)
        self._need_bytes -= len(piece)
        self.body += piece
        if self._need_bytes == 0:
            self._state = _State.DATA_END
        return True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._pos)
        limit_bytes = 2 if self._state is _State.DATA_END else _LINE_LIMIT_BYTES
        if (len(self._buffer) if end < 0 else end) - self._pos > limit_bytes:
            raise ChunkedError("a line of the chunk framing is too long")
        if end < 0:
            if 0 <= self._buffer.find(b"\r", self._pos) < len(self._buffer) - 1:
                raise ChunkedError("a bare carriage return in the chunk framing")
            return None
        if end == self._pos or self._buffer[end - 1] != 13:
            raise ChunkedError("a bare line feed in the chunk framing")
        line = self._buffer[self._pos : end - 1]
        self.framing_bytes += end + 1 - self._pos
        self._pos = end + 1
        return line
