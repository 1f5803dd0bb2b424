"""A whole router without sockets, its clients and its engines, in a time of their own (see ``clockwork``).

Every run has the same requests at the same moments.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bench.guard.clockwork import Clockwork
from bench.guard.rig import BACKENDS
from bench.guard.store import StandIn
from bench.peers.base import MODEL, Site
from bench.peers.meridian import config_text
from bench.scenarios import Scenario
from router import app as composition
from router import clock
from router.config import Config, parse
from router.core.types import LoadSample
from router.store.shared import SharedStore
from router.tasks import spawn
from router.telemetry.writer import LineWriter
from router.upstream.pool import Pool
from router.wire.inbound import Inbound
from router.wire.outbound import Outbound

#: How long an engine takes for a whole answer: 16 requests in flight are then 2 000 a second.
ANSWER_S = 0.008
#: Prompts that share their first three quarters within a family, as in bench/load.
FAMILIES = 64
SCRAPE_S = 1.0
SEED = 20260101

EVENT = '{"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1700000000,"model":"bench","choices":['
ROLE = '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}'
TOKEN = '{"index":0,"delta":{"content":"t%06d "},"logprobs":null,"finish_reason":null}]}'
ANSWER = {
    "id": "chatcmpl-bench",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": MODEL,
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "t000001 " * 16},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 50, "total_tokens": 66, "completion_tokens": 16},
}


class Wire:
    """A transport as protocols know it. Nothing that is written ever waits."""

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = close = abort = pause_reading


class Engine(Wire):
    """The far end of one connection to a backend. ``load`` tells how it answers."""

    def __init__(self, load: Load, outbound: Outbound) -> None:
        self._load = load
        self._outbound = outbound

    def write(self, data: bytes) -> None:
        loop = self._load.loop
        if self._load.scenario.stream:
            loop.call_soon(self._begin)
        else:
            loop.call_later(ANSWER_S, self._outbound.data_received, WHOLE)

    def _begin(self) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self._outbound.data_received(head + chunk(ROLE))
        self._token(0)

    def _token(self, number: int) -> None:
        load = self._load
        self._outbound.data_received(chunk(TOKEN % number))
        load.chunks += 1
        # No two streams tick together: the first pauses differ, by the golden ratio.
        load.streams += number == 0
        phase = load.streams * 0.6180339887498949 % 1.0 if number == 0 else 1.0
        load.loop.call_later(phase * load.scenario.interval_us / 1e6, self._token, number + 1)


class Client(Wire):
    """One client connection, with a request in flight at any time."""

    def __init__(self, load: Load, router: composition.App) -> None:
        self._load = load
        self._inbound = Inbound(router.server.gate, router.server)
        self._inbound.connection_made(self)  # type: ignore[arg-type]

    def ask(self) -> None:
        self._inbound.data_received(self._load.next_request())

    def write(self, data: bytes) -> None:
        load = self._load
        if load.scenario.stream:
            return
        assert data.startswith(b"HTTP/1.1 200"), data
        load.requests += 1
        load.loop.call_soon(self.ask)


class Load:
    """The clients and engines of one scenario, and how much of it is done."""

    def __init__(self, loop: Clockwork, scenario: Scenario, key: str) -> None:
        self.loop = loop
        self.scenario = scenario
        self.requests = self.chunks = self.streams = 0
        self._asked = 0
        self._rng = random.Random(SEED)
        self._families = [self._family(key) for _ in range(FAMILIES)]

    def _words(self, size: int) -> str:
        return "".join(self._rng.choices(" abcdefghijklmnopqrstuvwxyz", k=size))

    def _family(self, key: str) -> tuple[bytes, bytes]:
        """The parts of a request before and after its number."""
        scenario = self.scenario
        own = scenario.prompt_bytes // 4
        ask = f"[[chunks={scenario.chunks} interval_us={scenario.interval_us} prompt_tokens=50]] "
        shared = ask + self._words(scenario.prompt_bytes - own - 16 - len(ask))
        begin = f'{{"model":"{MODEL}","messages":[{{"role":"system","content":"{shared}"}},{{"role":"user","content":"'
        end = f'{self._words(own)}"}}],"max_tokens":{scenario.chunks},"temperature":0'
        end += ',"stream":true,"stream_options":{"include_usage":true}}' if scenario.stream else "}"
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8000\r\naccept: */*\r\nuser-agent: bench\r\n"
            f"content-type: application/json\r\nauthorization: Bearer {key}\r\n"
            f"content-length: {len(begin) + 16 + len(end)}\r\n\r\n"
        )
        return (head + begin).encode(), end.encode()

    def next_request(self) -> bytes:
        self._asked += 1
        before, after = self._rng.choice(self._families)
        return b"%b%016x%b" % (before, self._asked, after)

    @property
    def done(self) -> int:
        return self.chunks if self.scenario.unit == "chunk" else self.requests


def chunk(event: str) -> bytes:
    data = f"data: {EVENT}{event}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


def message(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


WHOLE = message(json.dumps(ANSWER, separators=(",", ":")).encode())


class Nowhere:
    """Where the lines of the log go."""

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


def configuration() -> Config:
    """That of the bench (see ``bench/peers/meridian``)."""
    site = Site(8000, tuple(range(9001, 9001 + BACKENDS)), Path(), frozenset(), frozenset())
    return parse(config_text(site, admin=8001, store_port=6379, workers=1), "regions.toml", env={})


async def begin(loop: Clockwork, scenario: Scenario) -> Load:
    """A router that serves this load from now on."""
    clock.monotonic_s, clock.wall_s = loop.time, loop.wall_s
    random.seed(SEED)
    composition.random = SimpleNamespace(Random=lambda: random.Random(SEED))  # type: ignore[assignment]
    config = configuration()
    store = SharedStore(
        StandIn(loop.wall_s),
        config.plans,
        router_name="guard",
        on_down=config.store.on_down,
        monotonic_s=loop.time,
        wall_s=loop.wall_s,
    )
    composition.open_store = lambda config, router_name: store
    log = LineWriter(Nowhere(), name="log")
    listeners: Any = SimpleNamespace(clients=None, admin=None, in_force=lambda config: config)
    router = composition.App(config, listeners, access=log, human=False)
    await store.start()
    _, key = await store.create_key("bench")
    load = Load(loop, scenario, key)
    for name in router.fleet.backends:
        connect_to(load, router.lifecycle._pools[name])
    router.telemetry.start()
    spawn(observe(router), name="observe backends")
    router.server.start(None)
    await asyncio.sleep(0.1)
    for number in range(scenario.connections):
        loop.call_later(number * ANSWER_S / scenario.connections, Client(load, router).ask)
    return load


def connect_to(load: Load, pool: Pool) -> None:
    async def connect(timeout_s: float, last_hope: Callable[[], bool]) -> Outbound:
        outbound = pool._new()
        outbound.connection_made(Engine(load, outbound))  # type: ignore[arg-type]
        pool.admit(outbound)
        return outbound

    pool.connect = connect  # type: ignore[method-assign]


async def observe(router: composition.App) -> None:
    """Tell the fleet once a second what probes and scrapes would."""
    fleet = router.fleet
    while True:
        now_s = clock.monotonic_s()
        for b in fleet.backends.values():
            fleet.observe_health(b.name, True, now_s)
            fleet.observe_rtt(b.name, 0.001 if b.local else 0.08, now_s)
            load = LoadSample(now_s, running=float(b.inflight), waiting=0.0, kv_ratio=0.1, kv_capacity_tokens=1_600_000)
            fleet.observe_load(b.name, load, now_s)
        await asyncio.sleep(SCRAPE_S)
