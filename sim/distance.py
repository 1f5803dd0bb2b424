"""A line to a server that is far away: it delays what passes, loses touch, or falls silent. User space, loopback only.

    async with Distance(port, rtt_s=0.166, jitter_s=0.02) as line:
        ...  # line.port
        line.mode = "cut"

``python -m sim.distance PORT RTT_S JITTER_S`` is the same as a process: it says its port, then obeys lines such as
``mode cut`` or ``rtt 0.09 0.01`` on stdin, and ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from typing import Literal, Self, cast

#: through   bytes arrive, late
#: frozen    nothing moves; all of it arrives when the line thaws
#: cut       nothing moves and new connections get no answer; when the line is mended, old connections are reset
Mode = Literal["through", "frozen", "cut"]

_CHUNK = 65536


class Distance:
    """``rtt_s`` is what a question and its answer take, half of it each way, give or take half of ``jitter_s`` each.
    The line begins at port ``at`` of ``host``; 0: any that is free."""

    def __init__(
        self, port: int, rtt_s: float, jitter_s: float = 0.0, *, host: str = "127.0.0.1", at: int = 0, seed: int = 0
    ) -> None:
        self.rtt_s = rtt_s
        self.jitter_s = jitter_s
        self.port = 0
        self.connections = 0  # so far
        self.bytes_up = 0  # so far, towards the server
        self._target = port
        self._here = host, at
        self._rng = random.Random(seed)
        self._mode: Mode = "through"
        self._moves = asyncio.Event()
        self._moves.set()
        self._lines: set[asyncio.Task[None]] = set()
        self._stale: set[asyncio.Task[None]] = set()  # whose connections were cut
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def mode(self) -> Mode:
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "through":
            for line in self._stale:
                line.cancel()
            self._stale.clear()
            asyncio.get_running_loop().call_later(0.02, self._thaw)  # when those have ended
        else:
            self._moves.clear()
            if mode == "cut":
                self._stale |= self._lines

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, *self._here, limit=_CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        lines = list(self._lines)
        for line in lines:
            line.cancel()
        await asyncio.gather(*lines, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = asyncio.current_task()
        assert line is not None
        self.connections += 1
        self._lines.add(line)
        upstream: asyncio.StreamWriter | None = None
        ways: list[asyncio.Future[None]] = []
        try:
            await asyncio.sleep(self._delay_s() + self._delay_s())  # a connection takes a round trip
            await self._moves.wait()
            answers, upstream = await asyncio.open_connection("127.0.0.1", self._target, limit=_CHUNK)
            ways = [
                asyncio.ensure_future(way)
                for way in (self._carry(reader, upstream, up=True), self._carry(answers, writer, up=False))
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the caller sees it as its connection's end
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._lines.discard(line)
            self._stale.discard(line)
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due_s, data = await queue.get()
                await asyncio.sleep(due_s - loop.time())
                await self._moves.wait()
                if not data:
                    return
                writer.write(data)
                await writer.drain()

        arriving = asyncio.ensure_future(arrive())
        last_s = 0.0
        try:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(_CHUNK):
                    if up:
                        self.bytes_up += len(data)
                    last_s = max(last_s, loop.time() + self._delay_s())  # in order
                    queue.put_nowait((last_s, data))
            queue.put_nowait((last_s, b""))
            with contextlib.suppress(ConnectionError, RuntimeError):  # uvloop's word for a closed one
                await arriving
        finally:
            arriving.cancel()

    def _thaw(self) -> None:
        if self._mode == "through":
            self._moves.set()

    def _delay_s(self) -> float:
        return max(0.0, self.rtt_s + self._rng.uniform(-self.jitter_s, self.jitter_s)) / 2


async def _main(port: int, rtt_s: float, jitter_s: float) -> None:
    async with Distance(port, rtt_s, jitter_s) as line:
        print(line.port, flush=True)
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            if words[0] == "mode":
                line.mode = cast(Mode, words[1])
            elif words[0] == "rtt":
                line.rtt_s, line.jitter_s = float(words[1]), float(words[2])


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
