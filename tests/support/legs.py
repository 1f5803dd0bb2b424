"""Answers of several legs in a playbook: to begin one, to break it, to see who goes on and what the client has."""

from __future__ import annotations

from typing import Any

import orjson

from tests.support.playbook import Backend, Client, Playbook, chat, event

USAGE = {"stream_options": {"include_usage": True}}


def role(id_: str = "c1") -> bytes:
    return event(id=id_, choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])


def usage(prompt: int, output: int, **fields: Any) -> bytes:
    tokens = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    return event(choices=[], usage=tokens, **fields)


async def begun(book: Playbook, *pieces: bytes, request: bytes | None = None) -> tuple[Client, Backend]:
    client = book.client()
    client.send(chat(stream=True) if request is None else request)
    await book.turn()
    backend = book.asked
    backend.streams(role(), *pieces)
    return client, backend


async def moved(book: Playbook, before: Backend, *, tokens: int | None = None) -> Backend:
    """The backend that goes on. ``tokens``: the count of them in the answer so far, if it is asked and says so."""
    await book.turn()
    after = book.asked
    assert after is not before
    if after.counts:
        after.answers(404 if tokens is None else 200, orjson.dumps({"count": tokens}))
        await book.turn()
    return after


def body_of(backend: Backend) -> Any:
    """The last body that the backend was sent."""
    return orjson.loads(backend.asked[-1].rpartition(b"\r\n\r\n")[2])


def events_in(client: Client) -> list[Any]:
    lines = client.answer.body.decode().split("\n\n")
    return [orjson.loads(line[6:]) for line in lines if line.startswith("data: {")]


def text_of(client: Client) -> str:
    choices = [choice for message in events_in(client) for choice in message.get("choices", ())]
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)
