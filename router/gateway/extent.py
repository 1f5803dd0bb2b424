"""How far an answer may run, and which members hold its prompt: by what engines read at the path of a request.

Engines pass over members that they do not know. A limit that bounds nothing, or a short prompt beside the one that is
read, must not make a request look small: quotas reserve by what is found here.
"""

from __future__ import annotations

from typing import Protocol

_COMPLETIONS = b"/v1/completions"
_CHAT = b"/v1/chat/completions"
#: What bounds an answer. Of several an engine goes by one or the other, so the largest counts.
_BOUNDS = {
    _CHAT: ("max_completion_tokens", "max_tokens"),
    _COMPLETIONS: ("max_tokens",),
    b"/v1/responses": ("max_output_tokens",),
    b"/v1/messages": ("max_tokens",),
}
_ALL_BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
#: What may be the prompt. If there are several all of them count. Only the last may hold a list of prompts.
PROMPTS = ("messages", "input", "documents", "prompt")


class Bounded(Protocol):
    """The members of a body that bound its answer."""

    max_tokens: int | float | None
    max_completion_tokens: int | float | None
    max_output_tokens: int | float | None
    n_predict: int | float | None


def longest(path: bytes, body: Bounded) -> int | float | None:
    """The most tokens that an answer may have; None: nothing bounds it."""
    given = [value for name in _BOUNDS.get(path, _ALL_BOUNDS) if (value := getattr(body, name))]
    if given and body.n_predict:  # llama.cpp goes by this first, others do not know it
        given.append(body.n_predict)
    return max(given) if given and min(given) > 0 else None
