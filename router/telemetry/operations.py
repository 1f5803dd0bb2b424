"""The operation of a request, in the words of OpenTelemetry's conventions for generative AI: ``gen_ai.operation.name``.

https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md
"""

from __future__ import annotations

_CHAT, _CONTENT = "chat", "generate_content"
_BY_PATH = {
    "/v1/chat/completions": _CHAT,
    "/v1/messages": _CHAT,
    "/v1/responses": _CHAT,
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v2/embed": "embeddings",
    "/pooling": "embeddings",
    "/v1/rerank": "rerank",
    "/v2/rerank": "rerank",
    "/rerank": "rerank",
    "/v1/score": "score",
    "/score": "score",
    "/classify": "classify",
    "/v1/moderations": "moderate",
    "/tokenize": "count_tokens",
    "/detokenize": "count_tokens",
    "/v1/messages/count_tokens": "count_tokens",
    "/v1/responses/input_tokens": "count_tokens",
}
#: The convention has no word of its own for these.
_BY_BEGINNING = (("/v1/images/", _CONTENT), ("/v1/audio/", _CONTENT), ("/v1/responses/", "fetch_response"))
OTHER_OPERATION = "other"
OPERATIONS = tuple(dict.fromkeys([*_BY_PATH.values(), *(word for _, word in _BY_BEGINNING), OTHER_OPERATION]))


def operation_of(path: str) -> str:
    """One of ``OPERATIONS``, for a path in its one spelling."""
    known = _BY_PATH.get(path)
    if known is not None:
        return known
    return next((word for beginning, word in _BY_BEGINNING if path.startswith(beginning)), OTHER_OPERATION)
