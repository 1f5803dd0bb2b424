"""How far an answer may run, and how long its prompt is, go by the members that engines read at the path of a request:
whoever adds others, which engines pass over, reserves no less."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from router.config import TokensSection
from router.core.params import Params
from router.core.tokens import TokenEstimator
from router.core.types import Usage
from router.gateway import ingress
from router.gateway.envelope import envelope_of
from router.gateway.ingress import Ask
from router.gateway.paths import takes_posts
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


_IDS = list(range(1000, 1100))
#: What engines read at each path: vLLM, SGLang, TEI, llama.cpp, Cohere, Jina and OpenAI. Each member alone is a prompt.
READ_AT: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"messages": [{"role": "user", "content": LONG}]},
        {"messages": [], "tools": [{"function": {"description": LONG}}]},
        {"messages": [], "documents": [{"text": LONG}]},
    ],
    "/v1/completions": [{"prompt": LONG}, {"prompt": [LONG, LONG]}, {"prompt": _IDS}, {"prompt": "a", "suffix": LONG}],
    "/v1/responses": [{"input": LONG}, {"input": "a", "instructions": LONG}, {"prompt": {"variables": {"a": LONG}}}],
    "/v1/messages": [{"messages": [{"role": "user", "content": LONG}]}, {"messages": [], "system": LONG}],
    "/v1/embeddings": [{"input": LONG}, {"input": [LONG, LONG]}, {"input": [_IDS, _IDS]}, {"input": [{"text": LONG}]}],
    "/v2/embed": [{"texts": [LONG]}, {"inputs": [{"content": [{"type": "text", "text": LONG}]}]}],
    "/rerank": [
        {"query": LONG, "documents": ["a"]},
        {"query": "a", "documents": [LONG]},
        {"query": "a", "texts": [LONG]},
    ],
    "/v1/rerank": [{"query": "a", "documents": [{"text": LONG}]}, {"query": "a", "instruction": LONG, "documents": []}],
    "/v2/rerank": [{"query": "a", "documents": [LONG]}],
    "/score": [
        {"text_1": LONG, "text_2": "a"},
        {"text_1": "a", "text_2": [LONG, LONG]},
        {"queries": LONG, "items": []},
    ],
    "/v1/score": [{"data_1": LONG, "data_2": "a"}, {"data_1": "a", "data_2": LONG}, {"query": "a", "items": [LONG]}],
    "/pooling": [{"input": LONG}, {"data": {"image": "a", "note": LONG}}],
    "/classify": [{"input": [LONG]}, {"text": LONG}, {"messages": [{"role": "user", "content": LONG}]}],
    "/v1/moderations": [{"input": LONG}, {"input": [{"type": "text", "text": LONG}]}],
    "/v1/audio/speech": [{"input": LONG, "voice": "a"}, {"input": "a", "instructions": LONG}],
    "/v1/images/generations": [{"prompt": LONG}, {"prompt": "a", "negative_prompt": LONG}],
    "/v1/images/edits": [{"prompt": LONG, "images": []}],
    "/v1/fim/completions": [{"prompt": "a", "suffix": LONG}],
    "/v1/something/new": [{"whatever": LONG}, {"prompt": "a", "whatever": {"more": LONG}}],
}


@pytest.mark.parametrize(("path", "members"), [(path, each) for path, all_ in READ_AT.items() for each in all_])
def test_what_an_engine_reads_at_a_path_is_reserved(path: str, members: dict[str, Any]) -> None:
    """Beside anything else that an engine may pass over, too."""
    for decoys in ({}, {"messages": []}, {"input": ""}, {"query": "a"}):
        ask = read(path.encode(), {**decoys, **members})
        assert max(ask.prompt_bytes, 4 * ask.item_tokens) >= len(LONG) * 0.7, decoys


def test_every_path_of_the_documents_is_among_these() -> None:
    rows = [row for row in Path("docs/api.md").read_text().splitlines() if row.startswith("| `POST /")]
    named = {path for row in rows[:2] for path in re.findall(r"(/v?[a-z0-9_/]+)`", row.rpartition(" | ")[0])}
    assert len(named) > 10
    assert named - {"/tokenize", "/detokenize", "/v1/"} <= READ_AT.keys()
    assert all(takes_posts(path.encode()) for path in READ_AT)


@pytest.mark.parametrize("path", [*READ_AT, "/v1/audio/transcriptions"])
def test_no_request_that_may_cost_tokens_reserves_none(path: str) -> None:
    for members in ({}, {"prompt": ""}, {"input": []}, {"messages": []}, {"unknown": 1}):
        ask = read(path.encode(), members)
        tokens = TokenEstimator(Params())
        tokens.learn("k", "m", 1, Usage(prompt_tokens=0, output_tokens=0))
        assert tokens.estimate("k", "m", ask.prompt_bytes, None)[0] + ask.item_tokens > 0, members
