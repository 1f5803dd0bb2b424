"""The router is told to stop: what runs may end, what does not end in time is ended, here and at the backend."""

from __future__ import annotations

import asyncio

import orjson

from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend
from tests.support.router import RouterProcess, Site


async def test_a_stream_that_outlasts_the_drain_ends_in_band_and_at_the_backend() -> None:
    gone = asyncio.Event()

    async def endless(call: Call) -> None:
        await call.stream("one", finish=False)
        await call.until_gone()
        gone.set()

    head = OPEN + "[timeouts]\ndrain = 0.5\n"
    async with ScriptedBackend(endless) as b, RouterProcess([Site("near", "a", b.url)], head=head) as r:
        host, port = r.listen.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = orjson.dumps({"model": "m", "stream": True, "messages": []})
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await reader.readuntil(b"one")
        r.terminate()
        rest = await asyncio.wait_for(reader.read(-1), 30)
        writer.close()
        await asyncio.wait_for(gone.wait(), 30)
    assert b'"code":"shutting_down"' in rest
    assert b"[DONE]" not in rest
    assert not rest.endswith(b"0\r\n\r\n"), "the framing must not say that this was all"
