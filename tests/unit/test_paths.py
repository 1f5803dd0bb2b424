"""Every spelling of a path that clients use is brought to one, and bringing it there twice changes nothing."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.gateway.paths import OWN, Own, model_of, own, path_of, query_of, takes_posts

SPELLINGS = [
    # the target, the path it means
    (b"/v1/chat/completions", b"/v1/chat/completions"),
    (b"/v1/chat/completions/", b"/v1/chat/completions"),
    (b"/v1/chat/completions?beta=true", b"/v1/chat/completions"),
    (b"//v1/chat/completions", b"/v1/chat/completions"),
    (b"/v1//chat/completions", b"/v1/chat/completions"),
    (b"/chat/completions", b"/v1/chat/completions"),
    (b"/v1/v1/chat/completions", b"/v1/chat/completions"),
    (b"/v1/v1/messages", b"/v1/messages"),  # Anthropic's SDK adds /v1 by itself
    (b"/v1/v1/v1/messages/count_tokens/", b"/v1/messages/count_tokens"),
    (b"/messages", b"/v1/messages"),
    (b"/openai/v1/responses", b"/v1/responses"),
    (b"/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", b"/v1/chat/completions"),
    (b"/openai/models?api-version=2024-10-21", b"/v1/models"),
    (b"/openai/responses/resp_1", b"/v1/responses/resp_1"),
    (b"/openai/deployments/a%2Fb/embeddings", b"/v1/embeddings"),
    (b"/embeddings/", b"/v1/embeddings"),
    (b"/audio/transcriptions", b"/v1/audio/transcriptions"),
    (b"/models", b"/v1/models"),
    (b"/models/org/name", b"/v1/models/org/name"),
    (b"/v1/models/", b"/v1/models"),
    (b"/v1/models/org%2Fname/", b"/v1/models/org%2Fname"),
    (b"http://router/chat/completions?x=1", b"/v1/chat/completions"),
    (b"https://router", b""),
    (b"/", b"/"),
    (b"///", b"/"),
    (b"/health/", b"/health"),
    (b"/tokenize", b"/tokenize"),
    (b"/v1/tokenize", b"/v1/tokenize"),
    # these only look alike
    (b"/v1beta/models", b"/v1beta/models"),
    (b"/v10/chat/completions", b"/v10/chat/completions"),
    (b"/chatter", b"/chatter"),
    (b"/openaix/chat/completions", b"/openaix/chat/completions"),
    (b"/openai/assistants", b"/openai/assistants"),
    (b"/openai/deployments/gpt-4o", b"/openai/deployments/gpt-4o"),
    (b"/modelsx", b"/modelsx"),
]


@pytest.mark.parametrize(("target", "path"), SPELLINGS)
def test_a_spelling(target: bytes, path: bytes) -> None:
    assert path_of(target) == path


_PIECES = st.sampled_from(
    [
        b"/",
        b"//",
        b"/v1",
        b"/openai",
        b"/deployments",
        b"/models",
        b"/chat",
        b"/completions",
        b"/x",
        b"?q=/v1//",
        b"%2F",
    ]
)


@given(st.lists(_PIECES, min_size=1, max_size=8).map(b"".join))
def test_a_path_that_was_spelled_stays(target: bytes) -> None:
    path = path_of(target)
    assert path_of(path) == path
    assert b"//" not in path
    assert not (path + b"/").startswith(b"/v1/v1/")
    assert len(path) <= 1 or not path.endswith(b"/")


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=40))
@pytest.mark.parametrize("owner", ["", "org/"])
def test_every_model_is_found_escaped_and_not(owner: str, name: str) -> None:
    model = owner + name
    for prefix in (b"/v1/models/", b"/models/", b"/v1/v1/models/"):
        for written in (quote(model, safe=""), quote(model, safe="/")):
            for end in (b"", b"/"):
                path = path_of(prefix + written.encode() + end + b"?x=1")
                assert own(path) is Own.MODELS
                assert model_of(path) == model


def test_who_answers() -> None:
    assert not any(takes_posts(path) for path in OWN)
    assert own(b"/v1/models/any/thing") is Own.MODELS
    assert own(b"/v1/modelsx") is None
    assert model_of(b"/v1/models") == ""
    for path in (b"/v1/chat/completions", b"/v1/responses/compact", b"/v2/rerank", b"/classify", b"/v1/new-thing"):
        assert takes_posts(path)
        assert own(path) is None
    for path in (
        b"/v1",
        b"/v1/",
        b"/v1/../admin",
        b"/v1/a%2e",
        b"/admin/v1/status",
        b"/metrics",
        b"",
        b"*",
        b"/v2/chat",
    ):
        assert not takes_posts(path)


def test_a_query_is_kept() -> None:
    assert query_of(b"/v1/responses/?include[]=x&y=?") == b"?include[]=x&y=?"
    assert query_of(b"/v1/responses/") == b""
