"""How many tokens a text has, asked from the engine that is about to go on after it.

Events are not tokens: under load an engine puts several into one, and of a character that takes three tokens it may
send one event or none. Where the client has set a limit, the rest may only have what is left of it. The question takes
one round trip and no place in the engine's batch, on the connection that the request for the rest then goes over.
"""

from __future__ import annotations

import asyncio

import orjson

from router.upstream.pool import Pool
from router.wire.flow import Signal
from router.wire.head import Headers
from router.wire.outbound import Outbound

#: An engine that takes longer is not waited for, in seconds.
PATIENCE_S = 0.5
_ANSWER_BYTES_MAX = 64 * 1024 * 1024


async def count_tokens(pool: Pool, outbound: Outbound, model: str, text: str) -> int | None:
    """None: the engine does not say. Raises ConnectionResetError when the connection is closed already."""
    # vLLM and SGLang read ``prompt``, llama.cpp ``content``.
    asked = {"model": model, "prompt": text, "content": text, "add_special_tokens": False, "add_special": False}
    body = orjson.dumps(asked)
    before, after = pool.head
    head = b"%b/tokenize%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (before, after, len(body))
    count = _Count(outbound)
    outbound.send((head, body), count)
    timer = asyncio.get_running_loop().call_later(PATIENCE_S, count.give_up)
    try:
        return await count
    finally:
        timer.cancel()
        count.give_up()


class _Count(Signal[int | None]):
    """The answer (a wire.outbound.Sink)."""

    __slots__ = ("_body", "_outbound", "_status")

    def __init__(self, outbound: Outbound) -> None:
        super().__init__()
        self._outbound = outbound
        self._status = 0
        self._body = b""

    def give_up(self) -> None:
        if not self.is_set:
            self._outbound.abort()
            self.set(None)

    def on_head(self, status: int, headers: Headers) -> None:
        self._status = status

    def on_body(self, data: bytes, framed: bytes | None = None) -> None:
        self._body += data
        if len(self._body) > _ANSWER_BYTES_MAX:
            self.give_up()

    def on_end(self, *, framed: bool) -> None:
        self.set(_count_in(self._body) if self._status == 200 else None)

    def on_fail(self, reason: str, *, answered: bool) -> None:
        self.set(None)


def _count_in(body: bytes) -> int | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict):
        return None
    count, tokens = document.get("count"), document.get("tokens")
    if isinstance(count, int) and not isinstance(count, bool):
        return count
    return len(tokens) if isinstance(tokens, list) else None
