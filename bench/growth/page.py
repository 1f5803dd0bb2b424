"""A server that plays any number of engines: each path before /health, /metrics and /v1/models is one of them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.processes import leave_on_sigterm

_PAGE = Path(__file__).parents[2] / "tests" / "data" / "engines"
_MODELS = b'{"object":"list","data":[{"id":"m","object":"model"}]}'


def _answer(body: bytes, kind: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (kind, len(body), body)


class Engines(asyncio.Protocol):
    """Answers a GET as soon as its head is there; nothing here has a body."""

    def __init__(self, metrics: bytes) -> None:
        self._metrics = _answer(metrics, b"text/plain")
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path.endswith(b"/metrics"):
                self._transport.write(self._metrics)
            elif path.endswith(b"/models"):
                self._transport.write(_answer(_MODELS, b"application/json"))
            else:
                self._transport.write(_answer(b"{}", b"application/json"))


async def _serve(metrics: bytes) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Engines(metrics), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    leave_on_sigterm()
    asyncio.run(_serve(Path(sys.argv[1]).read_bytes()))
