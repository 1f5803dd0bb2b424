"""The client's half of a request: the one answer it is sent, whichever backends it came from.

An answer outlives an attempt. It begins once, with the first content token or a whole body. The relay of the attempt
in progress writes to it. It ends once: well, or broken off. Only this file knows how it is framed.
"""

from __future__ import annotations

from router.wire.head import RequestHead
from router.wire.inbound import Inbound

_LAST_CHUNK = b"0\r\n\r\n"
_PING = b": ping\n\n"


class Answer:
    """What one client is sent.

    ``opened``: the head of a stream was sent ahead of any content, for a client that waits. ``begun``: the client has
    received a part of it. ``events``: it is a stream of events. ``chunked``: each part is a chunk. ``keep_alive``: the
    connection may serve another request after it.
    """

    __slots__ = ("_head", "begun", "chunked", "delivered_bytes", "events", "inbound", "keep_alive", "opened", "spoke_s")

    def __init__(self, inbound: Inbound, head: RequestHead) -> None:
        self.inbound = inbound
        self._head = head
        self.opened = self.begun = self.chunked = self.events = False
        self.keep_alive = True
        self.delivered_bytes = 0
        self.spoke_s = 0.0  # when the client last got something of a stream, before the attempt in progress

    def framing(self, length: int | None, *, closing: bool, bodiless: bool = False) -> bytes:
        """Decide how the answer is framed. Returns the header lines that say so. ``length``: of a whole body, or None
        when it is passed on as it comes. ``closing``: the router says goodbye to its clients."""
        head = self._head
        if self.opened:
            return b""
        if length is None:
            self.chunked = head.http11
            self.keep_alive = head.keep_alive and head.http11 and not closing
            lines = b"transfer-encoding: chunked\r\n" if head.http11 else b""
        else:
            self.keep_alive = head.keep_alive and not closing
            lines = b"content-length: %d\r\n" % length if not bodiless else b""
        if not self.keep_alive:
            return lines + b"connection: close\r\n"
        return lines if head.http11 else lines + b"connection: keep-alive\r\n"

    def begin(self, head: bytes, body: bytes, *, events: bool) -> None:
        """Send the head, framed as ``framing`` said, and the beginning of the body, or all of it."""
        self.begun, self.events = True, events
        if self.opened:
            self.write(body)
            return
        self.delivered_bytes += len(body)
        if body and self.chunked:
            self.inbound.write(b"%b%x\r\n%b\r\n" % (head, len(body), body))
        else:
            self.inbound.write(head + body)

    def open(self, head: bytes, now_s: float) -> None:
        """Send the head of a stream, framed as ``framing`` said, and a sign of life."""
        self.opened = self.events = True
        self.inbound.write(head)
        self.ping(now_s)

    def write(self, data: bytes) -> None:
        """Send the next part."""
        self.delivered_bytes += len(data)
        self.pass_on(data)

    def pass_on(self, data: bytes) -> None:
        """Send the next part, which is counted elsewhere."""
        if self.chunked:
            self.inbound.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self.inbound.write(data)

    def ping(self, now_s: float) -> None:
        """A sign of life in a stream, between two events."""
        self.spoke_s = now_s
        self.pass_on(_PING)

    def end(self) -> None:
        """All of it was sent."""
        if self.chunked:
            self.inbound.write(_LAST_CHUNK)

    def refuse(self, message: bytes, *, body_bytes: int, keep_alive: bool) -> None:
        """Nothing was sent yet: send a whole error instead."""
        self.begun, self.keep_alive = True, keep_alive
        self.delivered_bytes = body_bytes
        self.inbound.write(message)

    def break_off(self, event: bytes) -> None:
        """End an answer that cannot be ended well. A stream of events says so in band. The framing says so, too: the
        last chunk is missing, and the connection is closed."""
        if self.events:
            self.write(event)
        self.keep_alive = False
