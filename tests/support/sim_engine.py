"""Talking to a simulated engine byte by byte, and reading recorded answers of real ones the same way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sim.engine_http import Server
from sim.profiles import PROFILES, Profile

CAPTURES = Path(__file__).parent.parent / "data" / "captures"
MODEL = "llama-3.1-8b"
POLYGLOT = "llama-3.1-8b-polyglot"

#: Quick enough for tests: 2 ms a token.
QUICK = replace(PROFILES["demo"], name="quick", iteration_s=0.002, prefill_token_s=1e-5, intake_s=0.0)


@dataclass(slots=True)
class Answer:
    """What came back. ``end``: complete (its framing says so), eof, reset, timeout."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    at_s: list[float] = field(default_factory=list)  # since the request was sent, one for each chunk
    end: str = "eof"

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[str]:
        """What stands between the blank lines of a stream."""
        return [e for e in self.body.decode().split("\n\n") if e]

    @property
    def events(self) -> list[Any]:
        """The JSON of the stream's events, without [DONE]."""
        datas = [e[6:] for e in self.lines if e.startswith("data: ")]
        return [json.loads(d) for d in datas if d != "[DONE]"]

    @property
    def done(self) -> bool:
        return "data: [DONE]" in self.lines

    @property
    def text(self) -> str:
        """The first choice's text of a stream."""
        choices = [c for event in self.events for c in event.get("choices", []) if c["index"] == 0]
        return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for c in choices)


async def read_answer(
    reader: asyncio.StreamReader, *, timeout_s: float = 60.0, limit_events: int | None = None, head: bool = False
) -> Answer:
    """Read one response. ``limit_events``: stop after that many chunks."""
    answer = Answer()
    started_s = time.monotonic()

    async def whole() -> None:
        answer.status = int((await reader.readline()).split()[1])
        while (line := (await reader.readline()).rstrip(b"\r\n")) != b"":
            name, _, value = line.decode().partition(":")
            answer.headers[name.lower()] = value.strip()
        if head:
            answer.end = "complete"
        elif answer.headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                answer.chunks.append((await reader.readexactly(size + 2))[:-2])
                answer.at_s.append(time.monotonic() - started_s)
                if limit_events is not None and len(answer.chunks) >= limit_events:
                    return
            await reader.readline()
            answer.end = "complete"
        elif "content-length" in answer.headers:
            if length := int(answer.headers["content-length"]):
                answer.chunks.append(await reader.readexactly(length))
            answer.end = "complete"
        else:
            while data := await reader.read(65536):
                answer.chunks.append(data)
                answer.at_s.append(time.monotonic() - started_s)

    try:
        await asyncio.wait_for(whole(), timeout_s)
    except asyncio.IncompleteReadError as exc:
        if exc.partial:
            answer.chunks.append(exc.partial)
        answer.end = "eof"
    except (IndexError, ValueError):
        answer.end = "eof"
    except ConnectionResetError:
        answer.end = "reset"
    except TimeoutError:
        answer.end = "timeout"
    return answer


async def recorded(engine: str, name: str) -> Answer:
    """A real engine's answer, e.g. ``recorded("vllm-0.32.0", "chat_stream")``."""
    reader = asyncio.StreamReader(limit=1 << 26)
    reader.feed_data((CAPTURES / engine / f"{name}.response.http").read_bytes())
    reader.feed_eof()
    return await read_answer(reader)


class Client:
    """One connection at a time to one engine."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = server.port
        self.model = server.model

    async def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26)
        self.write(writer, method, path, body, headers)
        return reader, writer

    def write(
        self,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: engine", f"Content-Length: {len(raw)}"]
        lines += [f"{k}: {v}" for k, v in ({"Content-Type": "application/json"} | (headers or {})).items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + raw)

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Answer:
        """One request on a connection of its own."""
        try:
            reader, writer = await self.send(method, path, body, headers)
        except ConnectionRefusedError:
            return Answer(end="refused")
        try:
            return await read_answer(reader, timeout_s=timeout_s, head=method == "HEAD")
        finally:
            writer.close()

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.ask("GET", path, **options)

    async def chat(self, text: str = "hello there", *, timeout_s: float = 10.0, **fields: Any) -> Answer:
        messages = fields.pop("messages", [{"role": "user", "content": text}])
        body = {"model": self.model, "messages": messages, "max_tokens": 12, "temperature": 0} | fields
        return await self.ask("POST", "/v1/chat/completions", body, timeout_s=timeout_s)

    async def complete(self, prompt: Any = "the region router", *, timeout_s: float = 10.0, **fields: Any) -> Answer:
        body = {"model": self.model, "prompt": prompt, "max_tokens": 12, "temperature": 0} | fields
        return await self.ask("POST", "/v1/completions", body, timeout_s=timeout_s)

    async def fault(self, kind: str, **parameters: Any) -> Answer:
        return await self.ask("POST", "/sim/faults", {"kind": kind, **parameters})

    async def state(self) -> Any:
        return (await self.get("/sim/state")).json


@asynccontextmanager
async def engine(
    kind: str = "vllm", profile: str | Profile = QUICK, model: str = MODEL, **options: Any
) -> AsyncIterator[Client]:
    """A simulated engine on a free port of this process."""
    server = Server(model, engine=kind, profile=profile, **options)
    await server.start()
    try:
        yield Client(server)
    finally:
        await server.stop()


async def until(condition: Any, timeout_s: float = 30.0) -> None:
    """Wait until ``condition()`` (may be a coroutine function) is true; fail when it takes too long."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        outcome = condition()
        if asyncio.iscoroutine(outcome):
            outcome = await outcome
        if outcome:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen in time")
