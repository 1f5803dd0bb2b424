"""The gateway without sockets: events in, writes and decisions out.

A ``Playbook`` is a router process as ``app.py`` builds it, never started: no listener, no prober, no timers. A test
plays the client's bytes, the backends' bytes and the passing of time, and looks at what the router wrote to whom.

    book = Playbook(monkeypatch)
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.backend("us-east/a").answers(stream_head())
    book.backend("us-east/a").says(event("Hello"))
    assert client.answer.status == 200
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from router import clock
from router.app import App
from router.config import parse
from router.telemetry.journal import Record
from router.upstream.pool import ConnectError, Pool
from router.wire.inbound import Inbound
from router.wire.outbound import Outbound
from tests.support.transports import DeadEnd

MODEL = "m"
HEAD = """
[router]
name = "test"
region = "us-east"

[auth]
mode = "open"
"""
#: members of a request whose stream nobody else can continue
ALONE = {"logprobs": True}
BACKENDS = ("us-east/a", "us-east/b", "eu-west/a")
JURISDICTIONS = {"us": "us", "eu": "eu", "ap": "jp"}


def configuration(head: str = HEAD, backends: tuple[str, ...] = BACKENDS, models: str = f'["{MODEL}"]') -> str:
    """regions.toml with these backends, e.g. ``us-east/a``; the letters before the dash are its jurisdiction."""
    out = [head]
    for number, region in enumerate(dict.fromkeys(name.partition("/")[0] for name in backends)):
        jurisdiction = JURISDICTIONS[region.partition("-")[0]]
        out.append(f'[[regions]]\nname = "{region}"\njurisdiction = "{jurisdiction}"')
        inside = [name.partition("/")[2] for name in backends if name.startswith(f"{region}/")]
        for position, short in enumerate(inside):
            url = f"http://127.1.{number}.{position + 1}:8000"  # an address: a name would be looked up
            out.append(f'[[regions.backends]]\nname = "{short}"\nurl = "{url}"\nengine = "vllm"\nmodels = {models}')
    return "\n".join(out)


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A request as a client writes it. Underscores in header names become dashes."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{lines}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def chat(*, headers: dict[str, str] | None = None, **fields: Any) -> bytes:
    """A chat request. ``fields`` go into its body."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **fields}
    return post("/v1/chat/completions", orjson.dumps(body), **headers or {})


def event(text: str = "", *, finish: str | None = None, **fields: Any) -> bytes:
    """One event of a chat stream."""
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    document = {"id": "c1", "object": "chat.completion.chunk", "choices": [choice], **fields}
    return b"data: " + orjson.dumps(document) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def whole(text: str = "Hello", **fields: Any) -> bytes:
    """The body of a whole chat answer."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return orjson.dumps({"id": "c1", "object": "chat.completion", "choices": [choice], "usage": usage, **fields})


@dataclass
class Answer:
    """What a client has of an answer so far."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool  # by its framing

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.json["error"])


def read_answer(data: bytes) -> Answer:
    """The first final answer in ``data``, as far as it is there."""
    head, mark, rest = data.partition(b"\r\n\r\n")
    assert mark, data
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    status = int(first.split(" ")[1])
    if headers.get("transfer-encoding") == "chunked":
        body, end = b"", False
        while rest and not end:
            size, _, rest = rest.partition(b"\r\n")
            count = int(size, 16)
            body, end, rest = body + rest[:count], count == 0, rest[count + 2 :]
        return Answer(status, headers, body, end)
    length = int(headers.get("content-length", len(rest)))
    return Answer(status, headers, rest[:length], len(rest) >= length)


class Wire(DeadEnd):
    """One side's transport. ``taken`` bytes were looked at already."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0
        self.reading = True

    def take(self) -> bytes:
        """What was written since the last look."""
        new, self.taken = self.written[self.taken :], len(self.written)
        return new

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 4711) if name == "peername" else default


class Client:
    """One client connection."""

    def __init__(self, book: Playbook) -> None:
        self.wire = Wire()
        self._inbound = Inbound(book.app.server.gate, book.app.server)
        self._inbound.connection_made(self.wire)  # type: ignore[arg-type]

    def send(self, data: bytes) -> None:
        self._inbound.data_received(data)

    def leave(self) -> None:
        self.wire.closed = True
        self._inbound.connection_lost(None)

    def stop_reading(self) -> None:
        self._inbound.pause_writing()

    def read_on(self) -> None:
        self._inbound.resume_writing()

    @property
    def answer(self) -> Answer:
        return read_answer(self.wire.written)

    @property
    def heard(self) -> bool:
        """Has anything come?"""
        return bool(self.wire.written)


class Connection:
    """One connection of the router to a backend, seen from the backend."""

    def __init__(self, outbound: Outbound, wire: Wire) -> None:
        self.outbound, self.wire = outbound, wire


@dataclass
class Backend:
    """One backend of the book. ``refuses``: nobody listens there."""

    pool: Pool
    refuses: bool = False
    hangs: bool = False
    found: asyncio.Event | None = None  # until it is set packets get lost: no connection, and no refusal
    connections: list[Connection] = field(default_factory=list)

    async def connect(self, timeout_s: float, last_hope: Callable[[], bool] = lambda: False) -> Outbound:
        if self.refuses:
            raise ConnectError("upstream_unreachable", "could not be reached")
        if self.hangs:
            await asyncio.sleep(0)
            raise ConnectError("connect_timeout", "did not accept a connection in time")
        if self.found is not None:
            await self.found.wait()
        outbound, wire = self.pool._new(), Wire()
        outbound.connection_made(wire)  # type: ignore[arg-type]
        self.pool.admit(outbound)
        self.connections.append(Connection(outbound, wire))
        return outbound

    def gets_lost(self) -> None:
        """Packets to it get lost."""
        self.found = asyncio.Event()

    def is_found(self) -> None:
        """They arrive again."""
        if self.found is not None:
            self.found.set()

    @property
    def asked(self) -> list[bytes]:
        """Everything it was sent, by connection."""
        return [c.wire.written for c in self.connections]

    @property
    def _busy(self) -> Connection:
        busy = [c for c in self.connections if c.outbound.sink is not None and not c.wire.closed]
        assert len(busy) == 1, f"{len(busy)} requests in progress"
        return busy[0]

    def says(self, data: bytes, *, at: int | None = None) -> None:
        """Bytes of an answer, on the connection that is in use."""
        (self._busy if at is None else self.connections[at]).outbound.data_received(data)

    def answers(
        self, status: int = 200, body: bytes = b"", content_type: str = "application/json", **more: str
    ) -> None:
        """A whole answer with its length."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\n{lines}content-length: {len(body)}\r\n\r\n"
        self.says(head.encode() + body)

    def streams(self, *pieces: bytes, end: bool = False) -> None:
        """The head of a stream, and the first events."""
        self.says(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        self.goes_on(*pieces, end=end)

    def goes_on(self, *pieces: bytes, end: bool = False) -> None:
        busy = self._busy.outbound
        for piece in pieces:
            busy.data_received(b"%x\r\n%b\r\n" % (len(piece), piece))
        if end:
            busy.data_received(b"0\r\n\r\n")

    @property
    def counts(self) -> bool:
        """Is it asked how many tokens a text has?"""
        return self._busy.wire.written[self._busy.wire.written.rfind(b"POST ") :].startswith(b"POST /tokenize")

    def dies(self) -> None:
        """The connection in use breaks."""
        busy = self._busy
        busy.wire.closed = True
        busy.outbound.connection_lost(ConnectionResetError())


class Playbook:
    """See above. ``now_s`` stands still until ``advance`` is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, text: str | None = None) -> None:
        self.now_s = 1000.0
        monkeypatch.setattr(clock, "monotonic_s", lambda: self.now_s)
        config = parse(configuration() if text is None else text, "regions.toml", env={})
        listeners: Any = SimpleNamespace(clients=None, admin=None, in_force=lambda config: config)
        self.app = App(config, listeners, access=None, human=False)
        self.backends: dict[str, Backend] = {}
        for spec in config.backends:
            pool = self.app.lifecycle._pools[spec.name]
            self.backends[spec.name] = backend = Backend(pool)
            monkeypatch.setattr(pool, "connect", backend.connect)
            self.app.fleet.observe_health(spec.name, True, self.now_s)
            self.app.fleet.observe_rtt(spec.name, 0.001 if spec.name.startswith("us-east") else 0.1, self.now_s)

    def client(self) -> Client:
        return Client(self)

    def backend(self, name: str) -> Backend:
        return self.backends[name]

    async def turn(self) -> None:
        """Let tasks run: connections are made in one of their own."""
        for _ in range(20):
            await asyncio.sleep(0)

    def advance(self, seconds: float) -> None:
        """Let time pass, as the sweeper sees it."""
        self.now_s += seconds
        self.app.server.gate.sweep()
        self.app.lifecycle.sweep()  # which comes late, after such a jump
        self.app.lifecycle.sweep()

    @property
    def asked(self) -> Backend:
        """The backend that has the one request in progress."""
        busy = [b for b in self.backends.values() if any(c.outbound.sink is not None for c in b.connections)]
        assert len(busy) == 1, [b.pool.spec.name for b in busy]
        return busy[0]

    @property
    def records(self) -> list[Record]:
        return list(self.app.telemetry.journal.newest_first())

    def at_rest(self) -> None:
        """Nothing is left of any request."""
        assert not self.app.lifecycle.live
        assert not self.app.fleet.leases
        self.app.fleet.audit()
