"""One streamed chat completion as a client sees it: text as it comes, timings, and the route from the headers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli.client import Remote
from cli.errors import CliError

_WENT_ON = "continued in "


@dataclass(slots=True)
class Answer:
    """The answer. Times are in seconds since the request was sent; None is unknown."""

    request_id: str | None = None
    model: str | None = None
    region: str | None = None
    backend: str | None = None  # the one that began
    attempts: int = 1
    went_on: list[str] = field(default_factory=list)  # backends that went on with the answer, one after the other
    text: str = ""
    ttft_s: float | None = None
    duration_s: float = 0.0
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None  # of the prompt
    finish_reason: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float | None:
        """How fast it streamed, from the first token to the last."""
        if self.ttft_s is None or self.output_tokens is None or self.output_tokens < 2:
            return None
        span = self.duration_s - self.ttft_s
        return (self.output_tokens - 1) / span if span > 0 else None

    def document(self) -> dict[str, Any]:
        names = ("request_id", "model", "region", "backend", "attempts", "went_on", "text", "ttft_s", "duration_s")
        rest = ("prompt_tokens", "output_tokens", "cached_tokens", "finish_reason", "tokens_per_s")
        return {name: getattr(self, name) for name in (*names, *rest)}


def first_model(api: Remote) -> str:
    """The first model the router serves. Raises CliError when there is none."""
    models = api.get("/v1/models")["data"]
    if not models:
        raise CliError("the router serves no model yet", hint="`router regions list` shows how its backends are.")
    return str(models[0]["id"])


def complete(
    api: Remote,
    model: str,
    messages: Sequence[Mapping[str, str]],
    *,
    max_tokens: int | None = None,
    headers: Mapping[str, str] | None = None,
    on_start: Callable[[Answer], None] = lambda answer: None,
    on_text: Callable[[str], None] = lambda text: None,
    on_leg: Callable[[str], None] = lambda backend: None,
) -> Answer:
    """Ask, and hand on the answer piece by piece: ``on_start`` once the route is known, ``on_text`` for each piece,
    ``on_leg`` when another backend continues it.

    Raises StatusError when the router refuses, CliError when the stream breaks.
    """
    body: dict[str, Any] = {"model": model, "messages": list(messages), "stream": True}
    body["stream_options"] = {"include_usage": True}
    if max_tokens is not None:
        body["max_tokens"] = max_tokens
    answer = Answer(model=model)
    try:
        _stream(api, body, headers or {}, answer, on_start, on_text, on_leg)
    except CliError as error:
        error.request_id = error.request_id or answer.request_id
        raise
    return answer


def _stream(
    api: Remote,
    body: dict[str, Any],
    headers: Mapping[str, str],
    answer: Answer,
    on_start: Callable[[Answer], None],
    on_text: Callable[[str], None],
    on_leg: Callable[[str], None],
) -> None:
    """Fill in ``answer`` as it comes."""
    start_s = time.monotonic()
    with api.stream("/v1/chat/completions", body, {"x-router-legs": "1", **headers}) as reply:
        _take_route(answer, reply.headers)
        on_start(answer)
        for event in reply.events:
            if event.data == "[DONE]":
                break
            if event.name == "router":
                if event.data.startswith(_WENT_ON):
                    answer.went_on.append(event.data.removeprefix(_WENT_ON))
                    on_leg(answer.went_on[-1])
                continue
            text = _take_event(answer, json.loads(event.data))
            if text:
                if answer.ttft_s is None:
                    answer.ttft_s = time.monotonic() - start_s
                answer.text += text
                on_text(text)
    answer.duration_s = time.monotonic() - start_s
    if answer.finish_reason is None:
        raise CliError("the stream ended in the middle of the answer")


def _take_route(answer: Answer, headers: Mapping[str, str]) -> None:
    answer.headers = headers
    answer.request_id = headers.get("x-request-id")
    answer.region = headers.get("x-router-region")
    answer.backend = headers.get("x-router-backend")
    answer.attempts = int(headers.get("x-router-attempts", "1"))
    answer.model = headers.get("x-router-model", answer.model)


def _take_event(answer: Answer, document: dict[str, Any]) -> str:
    """The text of an event. Raises CliError for an error in the band."""
    if "error" in document:
        raise CliError(f"the stream broke: {document['error'].get('message', document['error'])}")
    if usage := document.get("usage"):
        answer.prompt_tokens = usage.get("prompt_tokens")
        answer.output_tokens = usage.get("completion_tokens")
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    text = ""
    for choice in document.get("choices", ()):
        text += (choice.get("delta") or {}).get("content") or ""
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
    return text
