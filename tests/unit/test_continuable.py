"""The table of reasons: each word is used, and each kind of request has its own."""

from __future__ import annotations

from typing import Any

import pytest

from router.core.continuable import OF_STOPS, REASONS, reason_in
from router.core.course import Stop


def test_every_stop_has_a_reason() -> None:
    assert OF_STOPS.keys() == set(Stop) - {Stop.BEGUN}, "whoever stops for BEGUN has named a better one before"
    assert set(OF_STOPS.values()) <= REASONS.keys()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"logprobs": None},
        {"logprobs": False, "top_logprobs": None},
        {"response_format": {"type": "text"}},
        {"response_format": None, "guided_json": None},
        {"tools": [{}], "tool_choice": "auto"},
        {"modalities": ["text"]},
        {"best_of": 1, "echo": False, "suffix": ""},
    ],
)
def test_nothing_is_in_the_way(body: dict[str, Any]) -> None:
    assert reason_in(body) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 0}, "logprobs"),
        ({"top_logprobs": 3}, "logprobs"),
        ({"prompt_logprobs": 1}, "logprobs"),
        ({"response_format": {"type": "json_schema"}}, "guided"),
        ({"guided_choice": ["a"]}, "guided"),
        ({"structured_outputs": {"regex": "a"}}, "guided"),
        ({"grammar": "root ::= x"}, "guided"),
        ({"json_schema": {"type": "object"}}, "guided"),
        ({"tool_choice": {"type": "function"}}, "tool_calls"),
        ({"echo": True}, "odd_request"),
        ({"suffix": "}"}, "odd_request"),
        ({"best_of": 2}, "odd_request"),
        ({"modalities": ["text", "audio"]}, "odd_request"),
        ({"return_token_ids": True}, "odd_request"),
    ],
)
def test_reasons(body: dict[str, Any], reason: str) -> None:
    assert reason_in(body) == reason
    assert reason in REASONS
