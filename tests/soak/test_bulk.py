"""The load generator in C, where the soak relies on it: which broken connection is a failure and which is not."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from bench import measure


@pytest.mark.soak
@pytest.mark.parametrize(("stale_s", "forgiven"), [(0.2, True), (30.0, False)])
async def test_a_connection_closed_for_being_idle_is_no_failure(stale_s: float, *, forgiven: bool) -> None:
    """Every connection is closed under its first request. Only where it had been idle is the request sent again."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = ("--mode=open", "--dial", "--connections=50", "--rate=5", "--warm-s=0.5", "--seconds=2")
        process = await asyncio.create_subprocess_exec(
            measure.load_program(), f"--port={port}", f"--stale-s={stale_s}", *options, stdout=asyncio.subprocess.PIPE
        )
        said = json.loads((await process.communicate())[0].splitlines()[-1])
    assert (said["stale"] > 0) is forgiven
    assert said["errors"]["cut"] > 0, "a new connection that is closed is a failure"
