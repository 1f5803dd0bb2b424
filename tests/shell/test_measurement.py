"""One measured backend: every flaw of its streams is seen, and the load stays within its bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from router.core.burn_in import LEVELS, TOKENS, Measured, requests_at
from router.observe.client import AskFailedError, Failure, ProbeAnswer
from router.observe.measurement import Subject, measure

WORD = b'data: {"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error":{"message":"dead","code":500}}\n\n' + DONE
EVENTS = "text/event-stream; charset=utf-8"


class Backends:
    """Answer every request with the same pieces."""

    def __init__(self, *pieces: bytes, status: int = 200, content_type: str = EVENTS, cut: bool = False) -> None:
        self.pieces = pieces
        self.status = status
        self.content_type = content_type
        self.cut = cut
        self.asked: dict[str, int] = {}
        self.at_once: dict[str, int] = {}
        self._open: dict[str, int] = {}

    async def send(
        self, backend: str, path: str, body: bytes, *, timeout_s: float, bytes_max: int, feed: Callable[[bytes], None]
    ) -> ProbeAnswer:
        self.asked[backend] = self.asked.get(backend, 0) + 1
        self._open[backend] = self._open.get(backend, 0) + 1
        self.at_once[backend] = max(self.at_once.get(backend, 0), self._open[backend])
        for piece in self.pieces:
            await asyncio.sleep(0)
            feed(piece)
        self._open[backend] -= 1
        if self.cut:
            raise AskFailedError(Failure.PROTOCOL, "the connection was closed before an answer")
        return ProbeAnswer(self.status, b"", 0.0, fresh=True, content_type=self.content_type)


async def measured(backends: Backends, *, engine: str = "vllm", places: int = 100, theirs: int = 0) -> Measured:
    one = Subject("r/new", engine, 0.0, lambda: places)
    other = Subject("r/old", engine, 0.0, lambda: theirs) if theirs else None
    return (await measure(backends.send, "m", one, other, lambda stage: None))[0]


@pytest.mark.parametrize(
    ("backends", "flaw"),
    [
        (Backends(WORD, WORD, END, USAGE, DONE), None),
        (Backends(WORD, END, USAGE), "no [DONE]"),
        (Backends(WORD, END, DONE), "no usage"),
        (Backends(WORD, USAGE), "no finish reason"),
        (Backends(WORD, END, USAGE.replace(b":2", b":999"), DONE), f"999 tokens, {TOKENS} were asked for"),
        (Backends(WORD, END, USAGE, DONE, content_type="application/json"), "its content type is not"),
    ],
)
async def test_a_flaw_of_a_stream_is_told(backends: Backends, flaw: str | None) -> None:
    shot = (await measured(backends)).greedy[0]
    assert shot.error is None
    if flaw is None:
        assert shot.flaws == ()
        assert (shot.text, shot.output_tokens) == ("wordword", 2)
        assert shot.ttft_s is not None
        assert shot.itl_s is not None
    else:
        assert any(flaw in said for said in shot.flaws), shot.flaws


@pytest.mark.parametrize(
    ("backends", "error"),
    [
        (Backends(status=503), "status 503"),
        (Backends(WORD, cut=True), "the connection was closed"),
        (Backends(WORD, ERROR), "an error in its stream"),
    ],
)
async def test_what_is_no_answer_is_an_error_and_no_load_follows(backends: Backends, error: str) -> None:
    one = await measured(backends)
    assert [error in (shot.error or "") for shot in one.greedy] == [True, True]
    assert one.steps == []


async def test_an_engine_that_may_not_know_the_option_need_not_tell_a_usage() -> None:
    assert (await measured(Backends(WORD, END, DONE), engine="openai")).greedy[0].flaws == ()


async def test_the_load_has_bounds() -> None:
    backends = Backends(WORD, END, USAGE, DONE)
    one = await measured(backends, theirs=2)
    assert [step.requests for step in one.steps] == list(LEVELS)
    assert backends.asked["r/new"] == 3 + sum(map(requests_at, LEVELS))
    assert backends.asked["r/old"] == requests_at(1) + requests_at(2), "no more than it has free places"
    assert backends.at_once["r/new"] <= max(LEVELS)
    assert backends.at_once["r/old"] <= 2
    small = await measured(Backends(WORD, END, USAGE, DONE), places=2)
    assert [step.requests for step in small.steps] == [1, 2]
