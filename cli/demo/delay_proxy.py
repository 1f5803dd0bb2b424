"""A distance on one machine: a TCP proxy through which everything arrives late by half a round trip each way.

    python -m cli.demo.delay_proxy PORT TARGET_PORT RTT_MS

The delay itself is the simulator's ``sim.link``; here it stands in front of an engine that knows nothing of it. It
buffers without bound what the slower side has not taken, which the demo's short answers make harmless.
"""

from __future__ import annotations

import asyncio
import sys

from router.tasks import spawn
from sim.link import Link

HOST = "127.0.0.1"


class Front(asyncio.Protocol):
    """The side of whoever connects; it is late by the link's delay already."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._early = bytearray()
        self._transport: asyncio.Transport | None = None
        self._back: asyncio.Transport | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        spawn(self._connect(), name="delay proxy connect")

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._back, _ = await loop.create_connection(lambda: Back(self), HOST, self._target_port)
        except OSError:
            self.end()
            return
        if self._closed:
            self._back.close()
        elif self._early:
            self._back.write(bytes(self._early))
            self._early.clear()

    def data_received(self, data: bytes) -> None:
        if self._back is None:
            self._early += data
        else:
            self._back.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        if self._back is not None:
            self._back.close()

    def send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def end(self) -> None:
        """The engine's side is gone."""
        if self._transport is not None:
            self._transport.close()


class Back(asyncio.Protocol):
    """The side of the engine."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def data_received(self, data: bytes) -> None:
        self._front.send(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.end()


async def serve(port: int, target_port: int, rtt_s: float) -> asyncio.Server:
    """Listen on ``port`` and lead to ``target_port``, both on loopback."""
    link = Link(rtt_s)
    return await asyncio.get_running_loop().create_server(lambda: link.protocol(Front(target_port)), HOST, port)


async def _main(port: int, target_port: int, rtt_ms: float) -> None:
    async with await serve(port, target_port, rtt_ms / 1000) as server:
        print(f"listening on http://{HOST}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
    except KeyboardInterrupt:
        sys.exit(130)
