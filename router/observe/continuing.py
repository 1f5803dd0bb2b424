"""Asks a live engine once whether it can continue an answer that another one began.

Its version, its flags or its chat template may prevent it from what others of its kind can: then it would begin a new
turn, or repeat the text. So it is asked for a few greedy tokens, and then to go on after a part of them. Only the
first token after the seam is compared: engines compute a prompt in another order than one token after the other, and
where two tokens are nearly as likely the answers may part later, whatever anybody does. For the same reason a second
place is tried when the first disagrees. It costs the engine 28 tokens of output at most, 20 as a rule.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from router.core.framing import events_of, fields_of
from router.core.leniency import loads
from router.core.traits import TRAITS, Continues
from router.core.types import BackendSpec
from router.observe.client import ProbeAnswer

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
#: The tokens of the undisturbed answer, and of each continuation.
ANSWER_TOKENS = 12
REST_TOKENS = 4
_PROMPT = "Describe the sea in one long sentence."
#: Statuses that say something about what was asked. Any other failure says nothing about it.
_REFUSALS = frozenset({400, 404, 405, 422, 501})

#: Sends a body to a path of the engine. Raises AskFailedError.
Ask = Callable[[str, bytes], Awaitable[ProbeAnswer]]


@dataclass(frozen=True, slots=True)
class Finding:
    """``how``: None while it is unknown; then nothing is continued there."""

    how: Continues | None
    reason: str
    model: str | None = None
    at_s: float | None = None

    @property
    def word(self) -> str:
        return "unknown" if self.how is None else self.how.word


class UnclearError(Exception):
    """The engine gave no answer that says anything. It is asked again later."""


class _RefusedError(Exception):
    """The engine does not take the question."""


@dataclass(slots=True)
class _Said:
    """One stream: the pieces of its text, and the ids of its tokens where the engine tells them."""

    pieces: list[str] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def settled(spec: BackendSpec) -> Finding | None:
    """The finding that needs no question; None: the engine is to be asked."""
    traits = TRAITS[spec.engine]
    if spec.continues == "auto":
        return None if traits.continues else Finding(Continues.NO, f"{traits.title}: not asked")
    return Finding(Continues[spec.continues.upper()], "as configured")


async def find_out(ask: Ask, engine: str, model: str) -> Finding:
    """Ask the engine. Raises UnclearError or AskFailedError: nothing is known then."""
    try:
        whole = await _said(ask, CHAT_PATH, _chat(model, ANSWER_TOKENS, ids=TRAITS[engine].continues is Continues.IDS))
    except _RefusedError as error:
        return Finding(Continues.NO, f"takes no chat: {error}", model)
    cuts = _cuts(whole.pieces)
    by_ids = await _goes_on_by_ids(ask, model, whole) if len(whole.ids) > REST_TOKENS else False
    if not cuts:
        if by_ids:
            return Finding(Continues.IDS, "goes on after its own tokens", model)
        raise UnclearError("its answer to the probe was too short")
    try:
        by_text = await _goes_on_by_text(ask, model, whole, cuts)
    except _RefusedError as error:
        if by_ids:
            return Finding(Continues.IDS, "goes on after its own tokens, not after a text", model)
        return Finding(Continues.NO, f"refuses to go on: {error}", model)
    if not by_text:
        return Finding(Continues.NO, "began a new answer instead of going on", model)
    if by_ids:
        return Finding(Continues.IDS, "goes on after its own tokens, and after a text", model)
    return Finding(Continues.TEXT, "goes on after a text", model)


async def _goes_on_by_ids(ask: Ask, model: str, whole: _Said) -> bool:
    if not whole.prompt_ids:
        return False
    for cut in (len(whole.ids) // 2, len(whole.ids) - 2):
        body = {"model": model, "prompt": whole.prompt_ids + whole.ids[:cut], "return_token_ids": True}
        try:
            rest = await _said(ask, COMPLETIONS_PATH, body | _greedy(REST_TOKENS))
        except _RefusedError:
            return False
        if rest.ids[:1] == whole.ids[cut : cut + 1]:
            return True
    return False


async def _goes_on_by_text(ask: Ask, model: str, whole: _Said, cuts: list[int]) -> bool:
    for cut in cuts:
        begun = "".join(whole.pieces[:cut])
        rest = await _said(ask, CHAT_PATH, _chat(model, REST_TOKENS, begun=begun))
        if rest.text.startswith(whole.pieces[cut]):
            return True
    return False


def _cuts(pieces: list[str]) -> list[int]:
    """Two places at which the answer can be cut, the better one first: in front of a space, with which no new turn
    begins. None when the answer is too short."""

    def badness(place: int) -> tuple[bool, int]:
        before_space = pieces[place].startswith(" ") and not pieces[place - 1].endswith(" ")
        return not before_space, abs(place - len(pieces) // 2)

    return sorted(range(2, len(pieces) - 1), key=badness)[:2]


def _greedy(tokens: int) -> dict[str, Any]:
    return {"max_tokens": tokens, "temperature": 0, "stream": True}


def _chat(model: str, tokens: int, *, begun: str | None = None, ids: bool = False) -> dict[str, Any]:
    messages = [{"role": "user", "content": _PROMPT}]
    body: dict[str, Any] = {"model": model, "messages": messages} | _greedy(tokens)
    if begun is not None:
        messages.append({"role": "assistant", "content": begun})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body | ({"return_token_ids": True} if ids else {})


def text_of(stream: bytes) -> str:
    """The text of a stream of one choice."""
    said = _Said()
    for message in _messages(stream):
        _add(said, message)
    return said.text


async def _said(ask: Ask, path: str, body: dict[str, Any]) -> _Said:
    answer = await ask(path, orjson.dumps(body))
    if answer.status in _REFUSALS:
        raise _RefusedError(f"status {answer.status}")
    if answer.status != 200:
        raise UnclearError(f"it answered the probe with status {answer.status}")
    said = _Said()
    for message in _messages(answer.body):
        if (error := message.get("error")) is not None:
            code = error.get("code") if isinstance(error, dict) else None
            if code in _REFUSALS:
                raise _RefusedError(f"status {code}")
            raise UnclearError("it answered the probe with an error")
        _add(said, message)
    return said


def _messages(body: bytes) -> Iterator[dict[str, Any]]:
    for event in events_of(body):
        for line in fields_of(event)[1]:
            try:
                message = loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                yield message


def _add(said: _Said, message: dict[str, Any]) -> None:
    said.prompt_ids += _ids(message.get("prompt_token_ids"))
    choices = message.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if not isinstance(choice, dict):
            continue
        delta = choice.get("delta")
        text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
        if isinstance(text, str) and text:
            said.pieces.append(text)
        said.ids += _ids(choice.get("token_ids"))


def _ids(value: Any) -> list[int]:
    return [i for i in value if isinstance(i, int)] if isinstance(value, list) else []
