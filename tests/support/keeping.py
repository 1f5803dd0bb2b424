"""An engine of ``/v1/responses`` that keeps what it has answered, as vLLM does, and knows nothing of what others have."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.backends import SSE_HEAD, Call, chunk, whole

PATH = "/v1/responses"
Json = dict[str, Any]

_PART: Json = {"type": "output_text", "text": "hello", "annotations": []}
_USAGE: Json = {"input_tokens": 500, "output_tokens": 100, "total_tokens": 600}
_ITEM: Json = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [_PART]}


@dataclass
class KeepingEngine:
    """A behaviour of a ScriptedBackend. ``seen`` has the requests, ``kept`` what it could be asked about."""

    name: str
    kept: dict[str, Json] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    serial: Any = field(default_factory=itertools.count)

    async def __call__(self, call: Call) -> None:
        method, target, _ = call.head.split(b"\r\n", 1)[0].decode().split(" ")
        self.seen.append(f"{method} {target}")
        path = target.partition("?")[0]
        if method == "POST" and path == PATH:
            await self._make(call, orjson.loads(call.body))
            return
        name, _, part = path.removeprefix(f"{PATH}/").partition("/")
        response = self.kept.get(name)
        if response is None:
            await call.send(self._missing(name))
        elif method == "DELETE":
            del self.kept[name]
            await call.send(whole(200, {"id": name, "object": "response", "deleted": True}))
        elif part == "input_items":
            await call.send(whole(200, {"object": "list", "data": [_ITEM], "has_more": False}))
        else:
            await call.send(whole(200, {**response, "status": "cancelled"} if part == "cancel" else response))

    @staticmethod
    def _missing(name: str) -> bytes:
        message = f"Response with id '{name}' not found."
        return whole(404, {"error": {"message": message, "type": "invalid_request_error", "code": 404}})

    async def _make(self, call: Call, body: Json) -> None:
        previous = body.get("previous_response_id")
        if previous is not None and previous not in self.kept:
            await call.send(self._missing(previous))
            return
        name = f"resp_{self.name}{next(self.serial)}"
        response: Json = {
            "id": name,
            "object": "response",
            "status": "completed",
            "output": [_ITEM],
            "model": "m",
            "usage": _USAGE,
        }
        if "conversation" in body:
            response["conversation"] = {"id": f"conv_{self.name}"}
        self.kept[name] = response
        if body.get("wait"):
            self.busy.set()
            await self.go.wait()
        if not body.get("stream"):
            await call.send(whole(200, {**response, "instructions": "x" * body.get("length", 0)}))
            return
        events = [
            {
                "type": "response.created",
                "response": {**response, "output": [], "status": "in_progress", "usage": None},
            },
            {"type": "response.output_item.added", "item": {**_ITEM, "content": []}},
            {
                "type": "response.content_part.added",
                "item_id": "msg_1",
                "content_index": 0,
                "part": {**_PART, "text": ""},
            },
            {"type": "response.output_text.delta", "item_id": "msg_1", "content_index": 0, "delta": "hello"},
            {"type": "response.completed", "response": response},
        ]
        await call.send(SSE_HEAD)
        for number, event in enumerate(events):
            data = orjson.dumps({**event, "sequence_number": number, "output_index": 0})
            await call.send(chunk(b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), data)))
        await call.send(b"0\r\n\r\n")
