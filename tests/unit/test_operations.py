"""The words for what a request asks for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.operations import OPERATIONS, operation_of


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/chat/completions", "chat"),
        ("/v1/messages", "chat"),
        ("/v1/responses", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/audio/speech", "generate_content"),
        ("/v1/responses/resp_1", "fetch_response"),
        ("/v1/whatever", "other"),
    ],
)
def test_paths_have_their_words(path: str, operation: str) -> None:
    assert operation_of(path) == operation


@given(st.text())
def test_clients_cannot_make_words(path: str) -> None:
    assert operation_of(path) in OPERATIONS
