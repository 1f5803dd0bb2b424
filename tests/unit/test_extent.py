"""How far an answer may run, and how long its prompt is, go by the members that engines read at the path of a request:
whoever adds others, which engines pass over, reserves no less."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from router.config import TokensSection
from router.gateway import ingress
from router.gateway.envelope import envelope_of
from router.gateway.ingress import Ask
from router.gateway.steps import finish
from router.wire.head import RequestHead

CHAT, TEXT, RESPONSES, MESSAGES = b"/v1/chat/completions", b"/v1/completions", b"/v1/responses", b"/v1/messages"
EMBEDDINGS, RERANK = b"/v1/embeddings", b"/v1/rerank"
LONG = "a long prompt " * 40


def read(path: bytes, members: dict[str, Any]) -> Ask:
    """As short and long bodies are read, which agree."""
    body = orjson.dumps({"model": "m", **members})
    headers = {b"content-type": b"application/json"}
    envelope = envelope_of(RequestHead(b"POST", path, True, headers, keep_alive=True))
    short = ingress.read(envelope, body, TokensSection())
    long = finish(ingress.read_long(envelope, bytearray(body), TokensSection()))
    assert (short.max_tokens, short.prompt_bytes, short.choices) == (long.max_tokens, long.prompt_bytes, long.choices)
    return short


@pytest.mark.parametrize(
    ("path", "members", "longest"),
    [
        (CHAT, {}, None),
        (CHAT, {"max_tokens": 7}, 7),
        (CHAT, {"max_completion_tokens": 7}, 7),
        (CHAT, {"max_tokens": 7, "max_completion_tokens": 900}, 900),
        (CHAT, {"max_tokens": 900, "max_completion_tokens": 7}, 900),  # some engines take the one, some the other
        (CHAT, {"max_output_tokens": 1}, None),
        (CHAT, {"max_output_tokens": 1, "max_tokens": 900}, 900),
        (CHAT, {"max_tokens": 0, "max_completion_tokens": 7}, 7),
        (CHAT, {"max_tokens": -1, "max_completion_tokens": 7}, None),
        (CHAT, {"max_tokens": 1, "n_predict": 900}, 900),  # llama.cpp goes by the latter
        (CHAT, {"max_tokens": 900, "n_predict": 1}, 900),  # and others by the former
        (CHAT, {"max_tokens": 1, "n_predict": -1}, None),
        (CHAT, {"n_predict": 1}, None),
        (TEXT, {"max_tokens": 7}, 7),
        (TEXT, {"max_tokens": 900, "max_completion_tokens": 1}, 900),
        (TEXT, {"max_completion_tokens": 1}, None),
        (TEXT, {"max_output_tokens": 1}, None),
        (TEXT, {"max_tokens": 1, "n_predict": 900}, 900),
        (RESPONSES, {"max_output_tokens": 7}, 7),
        (RESPONSES, {"max_tokens": 1, "max_completion_tokens": 1}, None),
        (RESPONSES, {"max_tokens": 1, "max_output_tokens": 900}, 900),
        (MESSAGES, {"max_tokens": 7}, 7),
        (MESSAGES, {"max_tokens": 900, "max_completion_tokens": 1, "max_output_tokens": 1}, 900),
        (b"/v1/other", {"max_tokens": 7}, 7),
        (b"/v1/other", {"max_tokens": 7, "max_output_tokens": 9}, 9),
    ],
)
def test_an_answer_runs_as_far_as_an_engine_of_this_path_may_let_it(
    path: bytes, members: dict[str, Any], longest: int | None
) -> None:
    assert read(path, {"prompt" if path == TEXT else "messages": [], **members}).max_tokens == longest


@pytest.mark.parametrize(
    ("path", "decoy", "prompt"),
    [
        (TEXT, {"messages": []}, {"prompt": LONG}),
        (TEXT, {"input": ""}, {"prompt": LONG}),
        (RESPONSES, {"messages": []}, {"input": LONG}),
        (RESPONSES, {"prompt": ""}, {"input": LONG}),
        (EMBEDDINGS, {"messages": []}, {"input": [LONG]}),
        (EMBEDDINGS, {"prompt": ""}, {"input": [LONG]}),
        (RERANK, {"messages": [], "input": ""}, {"query": "q", "documents": [LONG, LONG]}),
        (CHAT, {"messages": [{"role": "user", "content": "hi"}]}, {"documents": [{"text": LONG}]}),
    ],
)
def test_a_short_prompt_hides_no_long_one(path: bytes, decoy: dict[str, Any], prompt: dict[str, Any]) -> None:
    assert read(path, {**decoy, **prompt}).prompt_bytes >= read(path, prompt).prompt_bytes >= len(LONG)


def test_a_list_of_prompts_counts_also_beside_something_else() -> None:
    assert read(TEXT, {"messages": [], "prompt": ["a", "b", "c"]}).choices == 3
