"""Raw bytes over a socket: for requests that no HTTP library would send."""

from __future__ import annotations

import asyncio
import contextlib
import re


async def talk(address: tuple[str, int], *pieces: bytes, pause_s: float = 0.0, timeout_s: float = 2.0) -> bytes:
    """Send the pieces, reading all the while, until the server closes or says nothing for ``timeout_s`` after the last."""
    reader, writer = await asyncio.open_connection(*address)
    out = bytearray()
    reading = asyncio.get_running_loop().create_task(_read_into(reader, out))
    try:
        for index, piece in enumerate(pieces):
            if index and pause_s:
                await asyncio.sleep(pause_s)
            if writer.transport.is_closing() or reading.done():
                break
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        size = -1
        while not reading.done() and size != len(out):
            size = len(out)
            await asyncio.wait([reading], timeout=timeout_s)
            for _ in range(3):  # a loop that stood still sees the time-out before what has come meanwhile
                await asyncio.sleep(0)
        return bytes(out)
    finally:
        reading.cancel()
        writer.close()


async def _read_into(reader: asyncio.StreamReader, out: bytearray) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            out += data


def statuses(answers: bytes) -> list[int]:
    """The status codes of pipelined answers whose bodies hold no status line."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
