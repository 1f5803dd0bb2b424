"""A region is killed while it streams: every answer goes on elsewhere, and is the one that it would have been."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from sim.fleet import SimBackend, SimFleet
from tests.conformance.conftest import sites_of
from tests.support.router import RouterProcess

NEAR = "us-east"
HEAD = f'region = "{NEAR}"\n[auth]\nmode = "open"\n[timeouts]\ntoken_gap = 2.0\n'
#: its characters have one to four bytes, and some are several tokens
MODEL = "llama-3.1-8b-polyglot"
STREAMS, TOKENS = 24, 60


@dataclass
class Stream:
    """One answer as its client sees it."""

    data: bytes = b""
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    broken: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def run(self, session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
        try:
            async with session.post(url, json=body) as reply:
                assert reply.status == 200, await reply.text()
                self.headers = {name.lower(): value for name, value in reply.headers.items()}
                async for part in reply.content.iter_any():
                    self.data += part
                    if self.data.count(b"\n\n") > 8:
                        self.begun.set()
        except aiohttp.ClientError as error:
            self.broken = repr(error)
        self.begun.set()

    @property
    def messages(self) -> list[Any]:
        events = self.data.decode().split("\n\n")
        return [json.loads(event[6:]) for event in events if event.startswith("data: {")]

    def essence(self) -> dict[str, Any]:
        """Everything that a client takes from it."""
        choices = [choice for message in self.messages for choice in message["choices"]]
        parts = [choice.get("delta", choice) for choice in choices]
        usages = [message["usage"] for message in self.messages if message.get("usage")]
        return {
            "text": "".join(part.get("content") or part.get("text") or "" for part in parts),
            "roles": [part["role"] for part in parts if "role" in part],
            "ids": len({message["id"] for message in self.messages}),
            "created": len({message["created"] for message in self.messages}),
            "ends": [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
            "done": self.data.count(b"data: [DONE]\n\n"),
            "tokens": [usage["completion_tokens"] for usage in usages],
            "prompt": [usage["prompt_tokens"] for usage in usages],
            "error": b'"error"' in self.data or self.broken,
        }


def bodies(route: str) -> list[dict[str, Any]]:
    shared = {
        "model": MODEL,
        "stream": True,
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream_options": {"include_usage": True},
    }
    prompts = [f"{number} tell me about rivers" for number in range(STREAMS)]
    if route == "completions":
        return [shared | {"prompt": prompt} for prompt in prompts]
    return [shared | {"messages": [{"role": "user", "content": prompt}]} for prompt in prompts]


async def streams(url: str, asked: list[dict[str, Any]], *disturbances: Any) -> list[Stream]:
    """All of them at once. When each has begun, the disturbances take place."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        made = [Stream() for _ in asked]
        tasks = [asyncio.ensure_future(s.run(session, url, body)) for s, body in zip(made, asked, strict=True)]
        async with asyncio.timeout(90):
            await asyncio.gather(*(s.begun.wait() for s in made))
            for disturb in disturbances:
                await asyncio.to_thread(disturb)
            await asyncio.gather(*tasks)
    return made


@pytest.mark.parametrize(
    ("engine", "route", "how"),
    [
        ("vllm", "chat/completions", signal.SIGKILL),
        ("sglang", "chat/completions", signal.SIGKILL),
        ("llamacpp", "chat/completions", signal.SIGKILL),
        ("vllm", "completions", signal.SIGKILL),
        ("vllm", "chat/completions", signal.SIGSTOP),
        ("llamacpp", "chat/completions", signal.SIGSTOP),
        ("llamacpp", "chat/completions", signal.SIGTERM),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else str(value).partition("/")[0],
)
async def test_a_region_dies_while_it_streams(engine: str, route: str, how: signal.Signals) -> None:
    def end(backend: SimBackend) -> None:
        {signal.SIGKILL: backend.kill, signal.SIGSTOP: backend.stop, signal.SIGTERM: backend.terminate}[how]()

    with (
        SimFleet(model=MODEL, engine=engine, seen_from=NEAR) as fleet,
        RouterProcess(sites_of(fleet, engine), head=HEAD) as r,
    ):
        near = [b for b in fleet.backends if b.region == NEAR]
        far = next(b for b in fleet.backends if b.region != NEAR)
        asked = bodies(route)
        undisturbed = await streams(f"{far.url}/v1/{route}", asked)
        answers = await streams(f"{r.url}/v1/{route}", asked, *(lambda b=b: end(b) for b in near))
        first = [answer.headers["x-router-region"] for answer in answers]
        assert first.count(NEAR) > STREAMS / 2, "the near region was not the one in use"
        for answer, wanted in zip(answers, undisturbed, strict=True):
            assert answer.essence() == wanted.essence()
        page = await asyncio.to_thread(r.ask_admin, "/admin/v1/requests?limit=100")
        records = page["data"]
        assert {record["error"] for record in records} == {None}
        assert any(record["attempts"] > 1 for record in records)
        if how is signal.SIGSTOP:
            for backend in near:
                backend.cont()
