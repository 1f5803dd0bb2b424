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
#: What stands before the prompt, in the order in which templates put it, and what may be the prompt. All of them count.
#: Only the last may hold a list of prompts.
BEFORE = ("tools", "system", "instructions", "query")
PROMPTS = ("messages", "input", "documents", "prompt")
#: Further ones where an engine does more than go on with a text: embeddings, rerank, score, classify, pooling,
#: moderations, speech and pictures, of vLLM, SGLang, TEI, Cohere, Jina and OpenAI.
ELSEWHERE = (
    "suffix",
    "instruction",
    "queries",
    "text_1",
    "text_2",
    "text",
    "texts",
    "data_1",
    "data_2",
    "data",
    "items",
    "inputs",
    "images",
    "negative_prompt",
)
_KNOWN = frozenset(
    b"embeddings embedding embed rerank reranking score classify pooling moderations "
    b"speech generations edits variations transcriptions translations".split()
)


def prompts_at(path: bytes) -> tuple[str, ...] | None:
    """The members that hold the prompt at this path; None: any may."""
    if path in _BOUNDS:
        return (*BEFORE, "suffix", *PROMPTS) if path == _COMPLETIONS else BEFORE + PROMPTS
    return BEFORE + ELSEWHERE + PROMPTS if path[path.rfind(b"/") + 1 :] in _KNOWN else None


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
