"""Load on any OpenAI endpoint, and what its clients see: time to the first token, between tokens, to the end.

Two ways to ask. Closed: ``concurrency`` clients, each of which asks again when it has its answer; shows what the
endpoint can do. Open: requests begin at random moments, ``rate`` of them each second whatever comes back; shows what
users would feel, because a request that has to wait is counted from the moment it was meant to begin.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import aiohttp
import orjson

from router.core.sse import StreamKind, StreamWatch

#: Requests under way at once, so that an endpoint that does not answer cannot eat this process.
INFLIGHT_MAX = 4096
_CONNECT_TIMEOUT_S = 10.0
_WORDS = ("river", "stone", "paper", "light", "garden", "engine", "letter", "winter", "signal", "copper")


@dataclass(frozen=True, slots=True)
class Load:
    """What to ask, how often, and for how long: until ``duration_s`` is over or ``requests`` have begun."""

    model: str
    prompt_tokens: int = 200  # about: one word each
    max_tokens: int = 64
    concurrency: int = 8
    rate: float | None = None  # requests a second; None: a closed loop
    duration_s: float = 10.0
    requests: int | None = None
    timeout_s: float = 120.0  # of one request
    seed: int = 1


@dataclass(slots=True)
class Shot:
    """One request as its client saw it. Times count from when it was meant to begin."""

    status: int = 0  # 0: no answer
    error: str | None = None
    region: str | None = None
    ttft_s: float | None = None
    duration_s: float = 0.0
    output_tokens: int = 0


@dataclass(slots=True)
class Result:
    load: Load
    duration_s: float = 0.0
    shots: list[Shot] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        good = [s for s in self.shots if s.error is None]
        span_s = self.duration_s or 1.0
        gaps = [(s.duration_s - s.ttft_s) / (s.output_tokens - 1) for s in good if s.ttft_s and s.output_tokens > 1]
        return {
            "model": self.load.model,
            "duration_s": self.duration_s,
            "requests": len(self.shots),
            "failed": len(self.shots) - len(good),
            "errors": dict(Counter(s.error for s in self.shots if s.error is not None).most_common()),
            "requests_per_s": len(good) / span_s,
            "output_tokens_per_s": sum(s.output_tokens for s in good) / span_s,
            "ttft_s": quantiles(s.ttft_s for s in good),
            "itl_s": quantiles(gaps),
            "e2e_s": quantiles(s.duration_s for s in good),
            "regions": dict(Counter(s.region for s in good if s.region is not None).most_common()),
        }


def quantiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """The smallest value that is not exceeded by that share of them (nearest rank); None if there are none."""
    known = sorted(v for v in values if v is not None)

    def at(share: float) -> float | None:
        return known[max(0, ceil(share * len(known)) - 1)] if known else None

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99)}


async def run(url: str, key: str | None, load: Load, *, done: Callable[[Shot], None] = lambda _: None) -> Result:
    """Ask ``url`` (without /v1). ``done`` hears of each request. Never raises for what the endpoint does."""
    result = Result(load)

    def finished(shot: Shot) -> None:
        result.shots.append(shot)
        done(shot)

    headers = {"authorization": f"Bearer {key}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=load.timeout_s, sock_connect=_CONNECT_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        began_s = time.monotonic()
        shooter = _Shooter(session, f"{url.rstrip('/')}/v1/chat/completions", load, finished)
        await (_closed(shooter, load) if load.rate is None else _open(shooter, load, load.rate))
        result.duration_s = time.monotonic() - began_s
    return result


class _Shooter:
    """Sends one request after the other; each has a prompt of its own, so that no prefix cache helps."""

    def __init__(self, session: aiohttp.ClientSession, url: str, load: Load, finished: Callable[[Shot], None]) -> None:
        self._session = session
        self._url = url
        self._load = load
        self._finished = finished
        self.begun = 0

    @property
    def more(self) -> bool:
        return self._load.requests is None or self.begun < self._load.requests

    async def shoot(self, meant_s: float) -> None:
        self.begun += 1
        body = self._body(self.begun)
        shot = Shot()
        try:
            await self._ask(body, shot, meant_s)
        except TimeoutError:
            shot.error = "timeout"
        except aiohttp.ClientError as error:
            shot.error = "unreachable" if isinstance(error, aiohttp.ClientConnectorError) else "broken"
        shot.duration_s = time.monotonic() - meant_s
        self._finished(shot)

    async def _ask(self, body: bytes, shot: Shot, meant_s: float) -> None:
        async with self._session.post(self._url, data=body, headers={"content-type": "application/json"}) as reply:
            shot.status, shot.region = reply.status, reply.headers.get("x-router-region")
            if reply.status != 200:
                shot.error = _error_of(reply.status, await reply.read())
                return
            watch = StreamWatch(StreamKind.CHAT)
            async for piece in reply.content.iter_any():
                watch.feed(piece)
                if watch.started and shot.ttft_s is None:
                    shot.ttft_s = time.monotonic() - meant_s
            shot.output_tokens = watch.usage.output_tokens
            if not watch.complete(framed=True):
                shot.error = "stream_interrupted"

    def _body(self, index: int) -> bytes:
        rng = random.Random(self._load.seed * 1_000_003 + index)
        words = " ".join(rng.choices(_WORDS, k=max(1, self._load.prompt_tokens - 1)))
        document = {
            "model": self._load.model,
            "messages": [{"role": "user", "content": f"{index}: {words}"}],
            "max_tokens": self._load.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return orjson.dumps(document)


async def _closed(shooter: _Shooter, load: Load) -> None:
    end_s = time.monotonic() + load.duration_s

    async def client() -> None:
        while shooter.more and (now_s := time.monotonic()) < end_s:
            await shooter.shoot(now_s)

    async with asyncio.TaskGroup() as clients:
        for _ in range(load.concurrency):
            clients.create_task(client())


async def _open(shooter: _Shooter, load: Load, rate: float) -> None:
    """Poisson arrivals."""
    rng = random.Random(load.seed)
    places = asyncio.Semaphore(INFLIGHT_MAX)
    meant_s = time.monotonic()
    end_s = meant_s + load.duration_s

    async def one(meant_s: float) -> None:
        async with places:
            await shooter.shoot(meant_s)

    moments: Sequence[float] = _moments(rng, rate, meant_s, end_s, load.requests)
    async with asyncio.TaskGroup() as requests:
        for moment_s in moments:
            await asyncio.sleep(max(0.0, moment_s - time.monotonic()))
            requests.create_task(one(moment_s))


def _moments(rng: random.Random, rate: float, began_s: float, end_s: float, most: int | None) -> list[float]:
    moments: list[float] = []
    at_s = began_s + rng.expovariate(rate)
    while at_s < end_s and (most is None or len(moments) < most):
        moments.append(at_s)
        at_s += rng.expovariate(rate)
    return moments


def _error_of(status: int, body: bytes) -> str:
    """``429 quota_exhausted``: the status, and the error's code if it tells one."""
    try:
        code = orjson.loads(body)["error"]["code"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return str(status)
    return f"{status} {code}" if isinstance(code, str) else str(status)
