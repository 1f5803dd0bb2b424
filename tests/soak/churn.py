"""Load that is never at rest: streams, whole answers, clients that leave, requests and backends that are broken."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from itertools import count, cycle

import orjson

from tests.support.backends import DONE, SSE_HEAD, Call, ScriptedBackend, answer, chunk, event, whole
from tests.support.router import RouterProcess

_TOKENS = 40
_GAP_S = 0.01
_EVENTS = [chunk(event(f"token {i} ")) for i in range(_TOKENS)]
_END = chunk(event(None, "stop")) + chunk(DONE) + b"0\r\n\r\n"
_BROKEN = b"GET / HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n"

#: what a client does -> how often, of 100
CLIENTS = {
    "stream": 48,
    "whole": 24,
    "leave while streaming": 8,
    "leave early": 7,
    "slow reader": 6,
    "nonsense": 3,
    "too much": 2,
    "stranger": 2,
}
#: what a backend does -> how often, of 100
BACKENDS = {"well": 92, "error": 2, "overloaded": 1, "cut before": 1, "cut within": 2, "garbage": 1, "late": 1}


class Engine:
    """Behaviour of a backend that fails now and then."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    async def __call__(self, call: Call) -> None:
        (what,) = self._rng.choices([*BACKENDS], [*BACKENDS.values()])
        if what == "error":
            await call.send(whole(500, {"error": {"message": "died"}}))
        elif what == "overloaded":
            await call.send(whole(503, {}, headers=b"retry-after: 1\r\n"))
        elif what == "cut before":
            call.reset()
        elif what == "garbage":
            await call.send(b"HTTP/1.1 OK\r\n\r\n")
        elif b'"stream":true' in call.body:
            await self._stream(call, cut=what == "cut within")
        else:
            if what == "late":
                await asyncio.sleep(1.0)
            await call.send(answer("x" * 400))

    async def _stream(self, call: Call, *, cut: bool) -> None:
        await call.send(SSE_HEAD)
        for number, data in enumerate(_EVENTS):
            await asyncio.sleep(_GAP_S)
            if cut and number == 10:
                call.reset()
            if call.writer.is_closing():
                return
            await call.send(data)
        if not call.writer.is_closing():
            await call.send(_END)


class Clients:
    """Sends ``rate_hz`` requests a second over connections that are mostly kept.

    ``small_key`` has a quota that is used up at once. ``causes`` tells of each answer 5xx what the journal knows: its
    code, how every attempt ended, and why no other backend was left.
    """

    def __init__(self, r: RouterProcess, key: str, small_key: str, rate_hz: float, seed: int) -> None:
        host, port = r.listen.split(":")
        self._router = r
        self._address = host, int(port)
        self._key = key.encode()
        self._small_key = small_key.encode()
        self.causes: Counter[str] = Counter()
        self._rate_hz = rate_hz
        self._rng = random.Random(seed)
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.outcomes: Counter[str] = Counter()

    async def run(self, length_s: float) -> None:
        loop = asyncio.get_running_loop()
        due_s = began_s = loop.time()
        while due_s < began_s + length_s:
            due_s += self._rng.expovariate(self._rate_hz)
            await asyncio.sleep(due_s - loop.time())
            (what,) = self._rng.choices([*CLIENTS], [*CLIENTS.values()])
            task = loop.create_task(self._one(what))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Let what runs end, and close what was kept."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=30)
        assert not self._tasks, "requests that never end"
        for _, writer in self._kept:
            writer.transport.abort()

    async def _one(self, what: str) -> None:
        reader, writer = self._kept.pop() if self._kept and self._rng.random() < 0.9 else await self._connect()
        kept = False
        try:
            async with asyncio.timeout(25):
                writer.write(_BROKEN if what == "nonsense" else self._request(what))
                kept = await self._read(what, reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.outcomes["cut"] += 1
        finally:
            if kept and len(self._kept) < 64:
                self._kept.append((reader, writer))
            else:
                writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self._address, limit=4096)

    def _request(self, what: str) -> bytes:
        prompt = "".join(self._rng.choices("abcdefgh ", k=self._rng.choice((100, 500, 16_000))))
        asked = {"model": "m", "messages": [{"role": "user", "content": prompt}], "stream": what != "whole"}
        body = orjson.dumps(asked)
        key = {"too much": self._small_key, "stranger": b"mr-%d" % self._rng.randrange(10**9)}.get(what, self._key)
        return (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %b\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (key, len(body), body)
        )

    async def _read(self, what: str, reader: asyncio.StreamReader) -> bool:
        """Whether the connection can be used again."""
        if what == "leave early":
            await asyncio.sleep(self._rng.random() * 0.02)
            self.outcomes["left"] += 1
            return False
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        if b"\r\nconnection: close\r\n" in head or b"transfer-encoding" not in head:
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(size)
            self.outcomes[str(status)] += 1
            if status >= 500:
                await self._trace(head.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode())
            return b"\r\nconnection: close\r\n" not in head
        return await self._stream(what, reader)

    async def _trace(self, request_id: str) -> None:
        record = await asyncio.to_thread(self._router.record, request_id)
        ends = [f"{a['outcome']} ({a['status'] or a['detail']})" for a in record["attempts"]]
        struck = sorted(c["struck"] or "free" for c in record["decision"]["candidates"] if c["struck"] != "model")
        self.causes[f"{record['error']} after {', '.join(ends) or 'no attempt'}; left: {', '.join(struck)}"] += 1

    async def _stream(self, what: str, reader: asyncio.StreamReader) -> bool:
        if what == "leave while streaming":
            await reader.readuntil(b"token 5")
            self.outcomes["left"] += 1
            return False
        if what == "slow reader":
            await asyncio.sleep(2 * self._rng.random())
        while (line := await reader.readuntil(b"\r\n")) != b"0\r\n":
            data = await reader.readexactly(int(line, 16) + 2)
            if b"stream_interrupted" in data:
                self.outcomes["interrupted"] += 1
                return False
        await reader.readexactly(2)
        self.outcomes["streamed"] += 1
        return True


async def flap(backend: ScriptedBackend, every_s: float) -> None:
    """Take a backend away for a while, again and again."""
    while True:
        await asyncio.sleep(every_s)
        await backend.shut()
        await asyncio.sleep(every_s / 4)
        await backend.open()


async def reload(r: RouterProcess, every_s: float) -> None:
    """Another configuration, again and again: a limit changes, and a backend comes and goes."""
    sites, head, number = list(r.sites), r.head, 0
    while True:
        await asyncio.sleep(every_s)
        number += 1
        r.sites = sites if number % 2 else sites[:-1]
        r.head = head.replace("concurrent = 5000", f"concurrent = {5000 + number % 7}")
        r.write_config()
        await asyncio.to_thread(r.ask_admin, "/admin/v1/config/reload", {})


async def move_key(r: RouterProcess, key_id: str, every_s: float) -> None:
    """A key changes its plan, again and again."""
    for plan in cycle(("small", "default")):
        await asyncio.sleep(every_s)
        await asyncio.to_thread(r.ask_admin, f"/admin/v1/keys/{key_id}", {"plan": plan}, method="PATCH")


async def harm(r: RouterProcess, backends: Sequence[str], every_s: float) -> None:
    """Attempts at one backend after the other fail on purpose for a while, in every way that must not show."""
    faults = ({"fault": "refuse"}, {"fault": "cut", "after_tokens": 0}, {"fault": "delay", "delay_s": 0.05})
    for number in count():
        await asyncio.sleep(every_s)
        backend, fault = backends[number % len(backends)], faults[number % len(faults)]
        await asyncio.to_thread(r.ask_admin, "/admin/v1/chaos", {"target": backend, "for_s": every_s / 2, **fault})
