"""Measures a backend that has to prove itself, beside one that serves already. ``core/burn_in.py`` judges.

The load is bounded: some thirty short requests each, eight at once at most, and of the backend that serves never more
than half of the places that are free. A backend that takes too long is not asked for the higher steps.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from router import clock
from router.core.burn_in import LEVELS, SAME_RATIO, TOKENS, Measured, Shot, Step, requests_at, same_ratio
from router.core.sse import StreamKind, StreamWatch
from router.core.traits import TRAITS
from router.observe.client import AskFailedError, ProbeAnswer
from router.observe.continuing import CHAT_PATH, text_of

#: Of one request, and of a step: a backend for which a step takes longer is not asked for the next one.
_TIMEOUT_S = 60.0
_STEP_S = 20.0
_BYTES_MAX = 1024 * 1024
_WORDS = ("river", "stone", "paper", "light", "garden", "engine", "letter", "winter", "signal", "copper")
_PROMPT_WORDS = 100
_QUESTION = "Describe the sea in one long sentence."
#: Greedy answers to one question, the first of which only warms up.
GREEDY_MAX = 5


class Send(Protocol):
    """Sends a body to a path of a backend. Raises AskFailedError."""

    async def __call__(
        self, backend: str, path: str, body: bytes, *, timeout_s: float, bytes_max: int, feed: Callable[[bytes], None]
    ) -> ProbeAnswer: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """A backend to be measured: ``places`` requests at once at most."""

    name: str
    engine: str
    rtt_s: float
    places: Callable[[], int]


async def measure(
    send: Send, model: str, one: Subject, other: Subject | None, told: Callable[[str], None]
) -> tuple[Measured, Measured | None]:
    """Ask ``one`` to prove itself, and ``other`` for the same under the same load. ``told`` hears of each step."""
    measured = Measured(one.name, one.rtt_s)
    beside = Measured(other.name, other.rtt_s) if other is not None else None
    told("the same question again and again")
    for asked in range(GREEDY_MAX):
        if asked >= 3 and (same_ratio(measured) or 0.0) >= SAME_RATIO:
            break
        measured.greedy.append(await _shoot(send, one, model, _QUESTION))
        if asked == 1 and all(shot.error is not None for shot in measured.greedy):
            return measured, beside
    for level in LEVELS:
        if level > one.places():
            break
        told(f"{level} at once")
        measured.steps.append(await _step(send, one, model, level))
        if other is not None and beside is not None and level <= other.places():
            beside.steps.append(await _step(send, other, model, level))
        if measured.steps[-1].took_s > _STEP_S:
            break
    return measured, beside


async def _step(send: Send, subject: Subject, model: str, level: int) -> Step:
    """``level`` clients, each of which asks again when it has its answer."""
    left = list(range(requests_at(level)))
    shots: list[Shot] = []
    began_s = clock.monotonic_s()

    async def client() -> None:
        while left:
            shots.append(await _shoot(send, subject, model, _prompt(1000 * level + left.pop())))

    async with asyncio.TaskGroup() as clients:
        for _ in range(level):
            clients.create_task(client())
    return Step(level, shots, clock.monotonic_s() - began_s)


def _prompt(number: int) -> str:
    """The same for every backend, and none begins like another, so that no prefix cache helps."""
    words = random.Random(number).choices(_WORDS, k=_PROMPT_WORDS)
    return f"{number}: continue these words: {' '.join(words)}"


async def _shoot(send: Send, subject: Subject, model: str, prompt: str) -> Shot:
    """One greedy stream, and what there is to say about it."""
    counts = TRAITS[subject.engine].takes_usage_option is True
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
    }
    if counts:
        body["stream_options"] = {"include_usage": True}
    watch, pieces = StreamWatch(StreamKind.CHAT), []
    began_s = clock.monotonic_s()
    heard_s: list[float] = []  # when content came

    def feed(data: bytes) -> None:
        pieces.append(data)
        watch.feed(data)
        if watch.started:
            heard_s.append(clock.monotonic_s())

    try:
        answer = await send(
            subject.name, CHAT_PATH, orjson.dumps(body), timeout_s=_TIMEOUT_S, bytes_max=_BYTES_MAX, feed=feed
        )
    except AskFailedError as error:
        return Shot(str(error))
    if answer.status != 200:
        return Shot(f"status {answer.status}")
    watch.flush()
    if watch.error is not None:
        return Shot("an error in its stream")
    usage = watch.usage
    shot = Shot(text=text_of(b"".join(pieces)), output_tokens=usage.output_tokens)
    shot.flaws = tuple(_flaws(watch, answer, counts=counts))
    if heard_s:
        shot.ttft_s = heard_s[0] - began_s
        if usage.output_tokens > 1:
            shot.itl_s = (heard_s[-1] - heard_s[0]) / (usage.output_tokens - 1)
    return shot


def _flaws(watch: StreamWatch, answer: ProbeAnswer, *, counts: bool) -> list[str]:
    flaws = []
    if not answer.content_type.startswith("text/event-stream"):
        flaws.append("its content type is not text/event-stream")
    if not watch.started:
        flaws.append("no token")
    if not watch.complete(framed=True):
        flaws.append("no finish reason")
    if not watch.done:
        flaws.append("no [DONE]")
    if counts and not watch.usage.reported:
        flaws.append("no usage")
    elif watch.usage.output_tokens > TOKENS:
        flaws.append(f"{watch.usage.output_tokens} tokens, {TOKENS} were asked for")
    return flaws
