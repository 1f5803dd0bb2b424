"""A stream is cut after every byte, and the client has the same text as if it had not been.

The engines say one text whatever happens, as greedy decoding does: who is given a beginning of it goes on after that.
Their events have the shapes of vLLM, llama.cpp and of completions; the rest may come in another shape than the
beginning, and in other pieces. 10 000 cuts with ``--hypothesis-profile=thorough``, some hundreds otherwise.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from hypothesis import settings

from tests.support.effort import PROFILES
from tests.support.playbook import DONE, Backend, Client, Playbook, chat, configuration, post

#: Letters of one to four bytes in UTF-8, characters made of several code points, escapes of JSON, white space, and
#: text that looks like the framing around it.
TEXT = 'Grüße aus 東京! 👩‍👩‍👧 🇯🇵 \\ "quoted" \t tab\n\ndata: [DONE]\n\n{"finish_reason":"stop"} e\u0301 💥 end ENDE and more'
STOPS = ["ENDE", "\n\n\n"]
Shape = Callable[[str, str | None, str], bytes]


def vllm(text: str, finish: str | None, id_: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": id_, "created": 1, "model": "m", "choices": [choice]}) + b"\n\n"


def llamacpp(text: str, finish: str | None, id_: str) -> bytes:
    choice = {"finish_reason": finish, "index": 0, "delta": {"content": text} if text or not finish else {}}
    return b"data: " + orjson.dumps({"choices": [choice], "created": 2, "id": id_, "model": "m"}) + b"\n\n"


def completion(text: str, finish: str | None, id_: str) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": id_, "object": "text_completion", "choices": [choice]}) + b"\n\n"


def role(id_: str) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    return b"data: " + orjson.dumps({"id": id_, "choices": [choice]}) + b"\n\n"


def said_after(begin: str, *, holds: bool) -> tuple[str, str]:
    """The text that follows, up to its end or a stop string, and the finish reason. An engine that ``holds`` shows
    nothing of a stop string; another one shows it until the last character is there."""
    assert TEXT.startswith(begin)
    rest = TEXT[len(begin) :]
    found = min((at, stop) for stop in STOPS if (at := rest.find(stop)) >= 0) if any(s in rest for s in STOPS) else None
    if found is None:
        return rest, "length"
    at, stop = found
    return rest[: at if holds else at + len(stop) - 1], "stop"


def pieces(text: str, rng: random.Random) -> Iterator[str]:
    while text:
        size = rng.randint(0, 4)
        yield text[:size]
        text = text[size:]


def stream(text: str, finish: str, shape: Shape, id_: str, rng: random.Random) -> list[bytes]:
    first = [] if shape is completion else [role(id_)]
    return [*first, *(shape(piece, None, id_) for piece in pieces(text, rng)), shape("", finish, id_), DONE]


def beginning_of(backend: Backend) -> str:
    """The part of the answer that is in the last body that the backend was sent."""
    body: Any = orjson.loads(backend.asked[-1].rpartition(b"\r\n\r\n")[2])
    if "prompt" in body:
        return str(body["prompt"]).removeprefix("Say")
    return str(body["messages"][-1]["content"]) if body["messages"][-1]["role"] == "assistant" else ""


def shown(client: Client) -> tuple[str, list[Any]]:
    """The text, and everything else that must be said once."""
    answer = client.answer
    assert answer.whole
    assert answer.body.endswith(DONE)
    messages = [orjson.loads(event[6:]) for event in answer.body.split(b"\n\n") if event.startswith(b"data: {")]
    text, marks = "", []
    for message in messages:
        (choice,) = message["choices"]
        delta = choice.get("delta", {})
        text += delta.get("content") or choice.get("text") or ""
        marks += [delta["role"]] if "role" in delta else []
        marks += [choice["finish_reason"]] if choice["finish_reason"] else []
    assert len({message["id"] for message in messages}) == 1
    assert answer.body.count(DONE) == 1 + answer.body.count(b"data: [DONE]\\n\\n")
    return text, marks


async def answered(book: Playbook, request: bytes, events: bytes, cut: int, after: Callable[[str], bytes]) -> Client:
    client = book.client()
    client.send(request)
    await book.turn()
    first = book.asked
    step = 1 + cut % 97
    parts = [events[at : min(at + step, cut)] for at in range(0, cut, step)]
    first.streams(*parts)
    for x in list(book.app.lifecycle.live):
        assert x.relay is not None
        assert x.relay.hand_over("is cut")
    await book.turn()
    second = book.asked
    assert second is not first
    if second.counts:
        second.answers(404, b"{}")
        await book.turn()
    second.streams(after(beginning_of(second)), end=True)
    for backend in book.backends.values():
        backend.connections = [c for c in backend.connections if not c.wire.closed]
    return client


CASES = [
    (vllm, vllm, True),
    (vllm, llamacpp, True),
    (llamacpp, vllm, False),
    (completion, completion, False),
]
CUTS = {"quick": 400, "ci": 4000, "thorough": 10_000}


@pytest.mark.parametrize(
    ("shape", "other", "holds"), CASES, ids=["vllm", "vllm-llamacpp", "llamacpp-vllm", "completion"]
)
async def test_no_cut_loses_or_repeats_a_character(
    monkeypatch: pytest.MonkeyPatch, shape: Shape, other: Shape, holds: bool
) -> None:
    book = Playbook(monkeypatch, configuration(backends=("us-east/a", "us-west/a")))
    rng = random.Random(7)
    if shape is completion:
        body = {"model": "m", "prompt": "Say", "stream": True, "stop": STOPS, "max_tokens": 1000}
        request = post("/v1/completions", orjson.dumps(body))
    else:
        request = chat(stream=True, stop=STOPS)
    whole, finish = said_after("", holds=holds)
    total = CUTS[next(name for name, count in PROFILES.items() if count == settings().max_examples)] // len(CASES)
    done = 0
    while done < total:
        events = stream(whole, finish, shape, "first", rng)
        first_text = next(n for n, e in enumerate(events) if e != role("first") and e != shape("", None, "first"))
        begin = len(b"".join(events[: first_text + 1]))
        end = len(b"".join(events[:-2]))
        data = b"".join(events)
        every = range(begin, end + 1, max(1, (end - begin) // (total - done)))
        ends = list(itertools.accumulate(map(len, events)))
        for cut in every:
            client = await answered(
                book, request, data, cut, lambda text: b"".join(stream(*said_after(text, holds=holds), other, "x", rng))
            )
            text, marks = shown(client)
            had = "".join(_text(event) for event, at in zip(events, ends, strict=True) if at <= cut)
            at = TEXT.find("ENDE")
            expected = had if at < len(had) else whole
            assert text == expected, f"cut at {cut} of {len(data)}, after {had[-20:]!r}"
            assert marks == [*(["assistant"] if shape is not completion else []), finish]
            done += 1
    assert not book.app.lifecycle.live
    assert not book.app.fleet.leases


def _text(event: bytes) -> str:
    if event == DONE:
        return ""
    (choice,) = orjson.loads(event[6:])["choices"]
    return str(choice.get("text") or choice.get("delta", {}).get("content") or "")
