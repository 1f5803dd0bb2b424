"""Load on any OpenAI endpoint, and what its clients see: time to the first token, between tokens, to the end.

Two ways to ask. Closed: ``concurrency`` clients, each of which asks again when it has its answer; shows what the
endpoint can do. Open: requests begin at random moments, ``rate`` of them each second whatever comes back; shows what
users would feel, because a request that has to wait is counted from the moment it was meant to begin. A trace is such a
way, too: its requests begin at its moments, and share the beginnings of their prompts as it says.
"""

from __future__ import annotations

import asyncio
import random
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, inf, log10
from typing import Any

import aiohttp
import orjson

from router.core.sse import StreamKind, StreamWatch
from sim.traces import Arrival, Trace

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
    trace: Trace | None = None  # says when to ask, and the lengths of prompts and answers


@dataclass(slots=True)
class Shot:
    """One request as its client saw it. Times count from when it was meant to begin."""

    status: int = 0  # 0: no answer
    error: str | None = None
    region: str | None = None
    ttft_s: float | None = None
    duration_s: float = 0.0
    output_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int | None = None  # of the prompt; None: the engine does not tell


@dataclass(slots=True)
class Result:
    load: Load
    duration_s: float = 0.0
    shots: list[Shot] = field(default_factory=list)
    #: requests that had begun when somebody ended the run; None: it ended by itself
    unfinished: int | None = None

    def document(self) -> dict[str, Any]:
        good = [s for s in self.shots if s.error is None]
        span_s = self.duration_s or 1.0
        gaps = [(s.duration_s - s.ttft_s) / (s.output_tokens - 1) for s in good if s.ttft_s and s.output_tokens > 1]
        told = [s for s in good if s.cached_tokens is not None]
        return {
            "model": self.load.model,
            "seed": self.load.seed,
            "trace": self.load.trace.name if self.load.trace is not None else None,
            "interrupted": self.unfinished is not None,
            "unfinished": self.unfinished or 0,
            "duration_s": self.duration_s,
            "requests": len(self.shots),
            "failed": len(self.shots) - len(good),
            "errors": dict(Counter(s.error for s in self.shots if s.error is not None).most_common()),
            "requests_per_s": len(good) / span_s,
            "output_tokens_per_s": sum(s.output_tokens for s in good) / span_s,
            "prompt_tokens": sum(s.prompt_tokens for s in good),
            "cached_tokens": sum(s.cached_tokens or 0 for s in told) if told else None,
            "cached_ratio": _ratio(told),
            "ttft_s": quantiles(s.ttft_s for s in good),
            "ttft_histogram": histogram([s.ttft_s for s in good if s.ttft_s is not None]),
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


def _ratio(shots: Sequence[Shot]) -> float | None:
    """The cached share of the prompts whose engine tells it."""
    prompt_tokens = sum(s.prompt_tokens for s in shots)
    return sum(s.cached_tokens or 0 for s in shots) / prompt_tokens if prompt_tokens else None


#: Most rows of a histogram, about.
_ROWS = 10


def histogram(values: Sequence[float]) -> list[dict[str, float]]:
    """How many values are at most ``le_s``, and above the row before: in steps of 1, 2 or 5 of a power of ten where
    they are close together, and in the row 1, 2, 5, 10 where they are not."""
    if not values:
        return []
    low, high = min(values), max(values)
    edges = _near(low, high) if high <= _ROWS * low else _far(low, high)
    counts = Counter(bisect_left(edges, value) for value in values)
    return [{"le_s": edge, "requests": counts[i]} for i, edge in enumerate(edges)]


def _near(low: float, high: float) -> list[float]:
    least = max((high - low) / _ROWS, high * 0.01)
    power = 10.0 ** floor(log10(least))
    step = next(nice * power for nice in (1, 2, 5, 10) if nice * power >= least * 0.999)
    first, last = ceil(low / step - 1e-9), ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(first, last)] + [max(high, round(last * step, 12))]


def _far(low: float, high: float) -> list[float]:
    edges = [nice * 10.0**power for power in range(-4, 5) for nice in (1, 2, 5)]
    first = bisect_left(edges, low)
    kept = [round(edge, 12) for edge in edges[first : bisect_left(edges, high)]]
    return [*kept, max(high, round(edges[min(bisect_left(edges, high), len(edges) - 1)], 12))]


async def run(
    url: str,
    key: str | None,
    load: Load,
    *,
    done: Callable[[Shot], None] = lambda _: None,
    stop: asyncio.Event | None = None,
) -> Result:
    """Ask ``url`` (without /v1). ``done`` hears of each request. Never raises for what the endpoint does.

    When ``stop`` is set the run ends at once with what has been answered by then.
    """
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
        asking = asyncio.ensure_future(_way(shooter, load))
        await _until(asking, stop)
        if not asking.done():
            result.unfinished = shooter.begun - len(result.shots)
            asking.cancel()
            await asyncio.wait({asking})
        else:
            asking.result()
        result.duration_s = time.monotonic() - began_s
    return result


async def _until(asking: asyncio.Future[None], stop: asyncio.Event | None) -> None:
    stopped = asyncio.ensure_future(stop.wait() if stop is not None else asyncio.sleep(inf))
    try:
        waited: set[asyncio.Future[Any]] = {asking, stopped}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


def _way(shooter: _Shooter, load: Load) -> Coroutine[Any, Any, None]:
    if load.trace is not None:
        return _traced(shooter, load, load.trace)
    return _closed(shooter, load) if load.rate is None else _open(shooter, load, load.rate)


class _Shooter:
    """Sends one request after the other. Without a trace each prompt is new, so that no prefix cache helps."""

    def __init__(self, session: aiohttp.ClientSession, url: str, load: Load, finished: Callable[[Shot], None]) -> None:
        self._session = session
        self._url = url
        self._load = load
        self._finished = finished
        self.begun = 0

    @property
    def more(self) -> bool:
        return self._load.requests is None or self.begun < self._load.requests

    async def shoot(self, meant_s: float, arrival: Arrival | None = None) -> None:
        self.begun += 1
        body = self._body(self.begun, arrival)
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
            usage = watch.usage
            shot.output_tokens, shot.prompt_tokens = usage.output_tokens, usage.prompt_tokens
            shot.cached_tokens = usage.cached_tokens
            if not watch.complete(framed=True):
                shot.error = "stream_interrupted"

    def _body(self, index: int, arrival: Arrival | None) -> bytes:
        document = {
            "model": self._load.model,
            "messages": [{"role": "user", "content": self._prompt(index, arrival)}],
            "max_tokens": self._load.max_tokens if arrival is None else arrival.output_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return orjson.dumps(document)

    def _prompt(self, index: int, arrival: Arrival | None) -> str:
        """About as many tokens as were asked for, one for each word. Blocks of a trace that are the same are the same
        text, all else is nobody else's."""
        load, beginning, tokens = self._load, "", self._load.prompt_tokens
        if arrival is not None and load.trace is not None:
            size = load.trace.block_tokens
            blocks = arrival.blocks[: arrival.prompt_tokens // size]
            beginning = "".join(f"{_text(f'{load.seed} block {block}', size)} " for block in blocks)
            tokens = arrival.prompt_tokens - len(blocks) * size
        own = _text(f"{load.seed} request {index}", tokens - 1)
        return f"{beginning}{index}: {own}"


def _text(seed: str, words: int) -> str:
    return " ".join(random.Random(seed).choices(_WORDS, k=max(1, words)))


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
    began_s = time.monotonic()
    moments = _moments(random.Random(load.seed), rate, began_s, began_s + load.duration_s, load.requests)
    await _at(shooter, ((moment_s, None) for moment_s in moments))


async def _traced(shooter: _Shooter, load: Load, trace: Trace) -> None:
    began_s = time.monotonic()
    arrivals = [a for a in trace.arrivals if a.at_s <= load.duration_s][: load.requests]
    await _at(shooter, ((began_s + arrival.at_s, arrival) for arrival in arrivals))


async def _at(shooter: _Shooter, requests: Iterable[tuple[float, Arrival | None]]) -> None:
    """Each request at its moment, whatever comes back."""
    places = asyncio.Semaphore(INFLIGHT_MAX)

    async def one(meant_s: float, arrival: Arrival | None) -> None:
        async with places:
            await shooter.shoot(meant_s, arrival)

    async with asyncio.TaskGroup() as tasks:
        for moment_s, arrival in requests:
            await asyncio.sleep(max(0.0, moment_s - time.monotonic()))
            tasks.create_task(one(moment_s, arrival))


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
