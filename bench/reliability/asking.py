"""Clients. Every stream is kept with the time of each piece, and judged against the text the model is known to say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from math import ceil
from typing import Any

import aiohttp
import orjson

from sim.text import answer

MODEL = "llama-3.1-8b"
POLYGLOT = "llama-3.1-8b-polyglot"


class Fate(Enum):
    """How a stream ended, as a careful client sees it."""

    WHOLE = "whole"  # finish reason, [DONE], clean framing, the text that was to be said
    TOLD = "told"  # an error: a status, an error event without [DONE], a broken connection
    WRONG = "wrong"  # passed for whole, and was not; or text that nobody was to say
    CUT_SILENTLY = "cut silently"  # an end that says neither


@dataclass(slots=True, eq=False)
class Stream:
    """One request. Times are of the monotonic clock."""

    prompt: str
    model: str
    max_tokens: int
    stop: str | None = None
    began_s: float = 0.0
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    broken: str | None = None  # the exception that a client would get
    ended_s: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def region(self) -> str | None:
        """Where it began."""
        return self.headers.get("x-router-region")

    @property
    def begun(self) -> bool:
        """Has a content token come?"""
        return any(b'"content":"' in data and b'"content":""' not in data for _, data in self.pieces)

    @property
    def first_token_s(self) -> float | None:
        for at_s, data in self.pieces:
            if any(_content(e) for e in _events(data)):
                return at_s - self.began_s
        return None

    @property
    def body(self) -> bytes:
        return b"".join(data for _, data in self.pieces)

    @property
    def events(self) -> list[dict[str, Any]]:
        return _events(self.body)

    @property
    def text(self) -> str:
        return "".join(map(_content, self.events))

    def _same(self, member: str) -> bool:
        return len({event.get(member) for event in self.events}) == 1

    @property
    def done(self) -> bool:
        return self.body.count(b"data: [DONE]\n\n") == 1

    @property
    def error(self) -> str | None:
        """The code of the error event, if there is one."""
        found = [e["error"] for e in self.events if e.get("error")]
        return str(found[0].get("code")) if found else None

    @property
    def finished(self) -> list[str]:
        return [c["finish_reason"] for e in self.events for c in e.get("choices", ()) if c.get("finish_reason")]

    @property
    def content_times(self) -> list[float]:
        return [at_s for at_s, data in self.pieces if any(_content(e) for e in _events(data))]

    @property
    def longest_gap_s(self) -> float:
        """Between two pieces with content, since the first."""
        return max((b - a for a, b in pairwise(self.content_times)), default=0.0)

    def next_after_s(self, moment_s: float) -> float:
        """How long after ``moment_s`` the next piece with content came."""
        return min((at_s - moment_s for at_s in self.content_times if at_s > moment_s), default=0.0)

    def fate(self) -> Fate:
        expected = said(self.model, self.prompt, self.max_tokens, self.stop)
        text = self.text
        ends_well = self.status == 200 and self.broken is None and bool(self.finished)
        if ends_well and self.error is None:
            once = len(self.finished) == 1 and self.body.count(b"data: [DONE]") <= 1
            once = once and self.body.count(b'"role":"assistant"') <= 1 and self._same("id") and self._same("created")
            return Fate.WHOLE if text == expected and once else Fate.WRONG
        if not expected.startswith(text):
            return Fate.WRONG
        if self.status != 200 or self.broken is not None or (self.error is not None and not self.done):
            return Fate.TOLD
        return Fate.CUT_SILENTLY


@lru_cache(maxsize=4096)
def said(model: str, prompt: str, max_tokens: int, stop: str | None = None) -> str:
    """The undisturbed answer."""
    context = f"<|user|>{prompt}<|end|><|assistant|>".encode()
    return "".join(answer(model, context, max_tokens, stop=(stop,) if stop else ()).texts)


def stop_of(model: str, prompt: str, characters: int) -> str:
    """A stop string that ends the answer after about as many characters."""
    text = said(model, prompt, 4 * characters)
    return next(text[at : at + 4] for at in range(characters, len(text)) if text.index(text[at : at + 4]) == at)


def _events(body: bytes) -> list[dict[str, Any]]:
    out = []
    for line in body.split(b"\n\n"):
        if line.startswith(b"data: {"):
            try:
                out.append(orjson.loads(line[6:]))
            except orjson.JSONDecodeError:
                continue
    return out


def _content(event: dict[str, Any]) -> str:
    return "".join((c.get("delta") or {}).get("content") or c.get("text") or "" for c in event.get("choices", ()))


class Clients:
    """Asks one router. ``key`` for one that wants it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, model: str = MODEL, max_tokens: int = 60) -> None:
        self._session = session
        self.url = url
        self.model = model
        self.max_tokens = max_tokens
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.all: list[Stream] = []

    def open(self, **fields: Any) -> Stream:
        """Begin a stream; it goes on by itself."""
        self._count += 1
        fields = {"max_tokens": self.max_tokens} | fields
        headers = fields.pop("headers", {})
        prompt, model = f"{self._count} tell me of rivers", fields.pop("model", self.model)
        if stops := fields.pop("stops_after", None):
            fields["stop"] = stop_of(model, prompt, stops)
            fields["max_tokens"] = 4 * stops
        stream = Stream(prompt, model, fields["max_tokens"], fields.get("stop"), time.monotonic())
        task = asyncio.get_running_loop().create_task(self._run(stream, fields, headers))
        self.all.append(stream)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    async def ask(self, **fields: Any) -> Stream:
        """One stream, to its end."""
        stream = self.open(**fields)
        await stream.over.wait()
        return stream

    async def drain(self) -> None:
        """Wait for the end of every stream."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    async def pour(self, per_s: float, for_s: float, **fields: Any) -> list[Stream]:
        """Begin streams at a steady pace; returns when the time is over, not when they have ended."""
        streams = []
        began_s = time.monotonic()
        while (now_s := time.monotonic()) - began_s < for_s:
            streams.append(self.open(**fields))
            await asyncio.sleep(max(0.0, began_s + len(streams) / per_s - now_s))
        return streams

    async def _run(self, stream: Stream, fields: dict[str, Any], headers: dict[str, str]) -> None:
        body = {
            "model": stream.model,
            "messages": [{"role": "user", "content": stream.prompt}],
            "stream": True,
            "temperature": 0,
        }
        try:
            async with self._session.post(
                f"{self.url}/v1/chat/completions", json=body | fields, headers=headers
            ) as reply:
                stream.status = reply.status
                stream.headers = {name.lower(): value for name, value in reply.headers.items()}
                async for data in reply.content.iter_any():
                    stream.pieces.append((time.monotonic(), data))
        except aiohttp.ClientError as exc:
            stream.broken = type(exc).__name__
        except TimeoutError:
            stream.broken = "TimeoutError"
        finally:
            stream.ended_s = time.monotonic()
            stream.over.set()


@asynccontextmanager
async def clients(url: str, **options: Any) -> AsyncIterator[Clients]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        made = Clients(session, url, **options)
        yield made
        await made.drain()


def count(streams: Iterable[Stream]) -> dict[Fate, int]:
    fates = dict.fromkeys(Fate, 0)
    for stream in streams:
        fates[stream.fate()] += 1
    return fates


def quantile(values: Iterable[float], share: float) -> float:
    known = sorted(values)
    return known[max(0, ceil(share * len(known)) - 1)] if known else 0.0
