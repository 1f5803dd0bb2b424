"""The body of a request that arrives in pieces: with a length, or in chunks."""

from __future__ import annotations

from router.wire.chunked import ChunkedDecoder
from router.wire.head import RequestHead

#: A body up to this length is handed on as bytes. To copy a longer one would hold up the loop.
_COPIED_BYTES_MAX = 256 * 1024
#: The framing of a body in chunks may have this many bytes beside a sixteenth of the body's limit; at most half of it.
_FRAMING_FREE_BYTES = 64 * 1024


class Upload:
    """``feed`` it until it is ``done``. ``stopped``: tiny chunks have taken enough time; feed what was left over later.

    ``paced_bytes`` is the size at the last look at its pace.
    """

    __slots__ = ("_body", "_chunked", "_length", "done", "head", "paced_bytes", "stopped")

    def __init__(self, head: RequestHead, length: int) -> None:
        self.head = head
        self.paced_bytes = 0
        self.stopped = False
        self.done = not length and not head.chunked
        self._length = length
        self._chunked = ChunkedDecoder() if head.chunked else None
        #: a bytearray grows in place; separate pieces would have to be joined, which copies all bytes again
        self._body = bytearray() if self._chunked is None else self._chunked.body

    @property
    def size_bytes(self) -> int:
        return len(self._body)

    def feed(self, data: bytes) -> bytes:
        """Take the bytes of the body and return those that were not taken. Raises ChunkedError."""
        if (decoder := self._chunked) is not None:
            decoder.feed(data)
            self.done, self.stopped = decoder.done, decoder.stopped
            return decoder.take_rest() if decoder.done or decoder.stopped else b""
        rest = b""
        if len(data) > (missing := self._length - len(self._body)):
            data, rest = data[:missing], data[missing:]
        self._body += data
        self.done = len(self._body) == self._length
        return rest

    def exceeds(self, limit_bytes: int) -> bool:
        """The body is longer than allowed, or will be, or its framing is out of proportion."""
        if (decoder := self._chunked) is None:
            return self._length > limit_bytes
        framing_bytes_max = limit_bytes // 16 + min(limit_bytes // 2, _FRAMING_FREE_BYTES)
        return decoder.announced_bytes > limit_bytes or decoder.framing_bytes > framing_bytes_max

    def take(self) -> bytes | bytearray:
        """The complete body."""
        return bytes(self._body) if len(self._body) <= _COPIED_BYTES_MAX else self._body
