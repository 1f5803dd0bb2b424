"""The demo's distance: everything through the proxy is late by what was asked for."""

from __future__ import annotations

import asyncio
import time

from cli.demo.delay_proxy import HOST, serve
from tests.support.ports import free_port

RTT_S = 0.1


async def test_a_round_trip_takes_its_time_and_the_first_one_its_handshake() -> None:
    ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()
        ended.set()

    async with await asyncio.start_server(echo, HOST, 0) as target:
        port = free_port()
        async with await serve(port, target.sockets[0].getsockname()[1], RTT_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            for round_trips, text in ((2, b"first"), (1, b"second"), (1, b"x" * 200_000)):
                start_s = time.monotonic()
                writer.write(text)
                assert await reader.readexactly(len(text)) == text
                took_s = time.monotonic() - start_s
                assert took_s >= round_trips * RTT_S - 0.002, text[:8]
            writer.close()
            assert await asyncio.wait_for(ended.wait(), 30), "the target hears of the end as well"


async def test_a_target_that_is_gone_closes_the_connection() -> None:
    port = free_port()
    async with await serve(port, free_port(), 0.0):
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await asyncio.wait_for(reader.read(), 30) == b""
        writer.close()
        await writer.wait_closed()
