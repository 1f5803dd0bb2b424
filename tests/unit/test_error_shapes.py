"""Errors in the dialect of their route: OpenAI's everywhere, Anthropic's on Anthropic's, whole and in band."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from router.errors import CODES, RouterError
from router.gateway.error_shapes import Dialect, dialect_of, error_body, error_event
from router.gateway.exchange import PassedOn
from router.upstream.classify import Objection, end_of_answer

ANTHROPIC_TYPES = {
    "invalid_request_error",
    "authentication_error",
    "billing_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "timeout_error",
    "overloaded_error",
}


def passed_on(status: int, body: object) -> PassedOn:
    objection = end_of_answer(status, [], orjson.dumps(body)).objection
    assert objection is not None
    return PassedOn(objection)


def document(error: RouterError, dialect: Dialect) -> dict[str, Any]:
    read: dict[str, Any] = orjson.loads(error_body(error, dialect, b"req-1"))
    return read


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        (b"/v1/messages", Dialect.ANTHROPIC),
        (b"/v1/messages/", Dialect.ANTHROPIC),
        (b"/v1/messages/count_tokens", Dialect.ANTHROPIC),
        (b"/v1/messages/batches", Dialect.ANTHROPIC),
        (b"/messages", Dialect.ANTHROPIC),
        (b"/v1/messagesx", Dialect.OPENAI),
        (b"/v1/chat/completions", Dialect.OPENAI),
        (b"/v1/responses", Dialect.OPENAI),
        (b"/nowhere", Dialect.OPENAI),
        (b"", Dialect.OPENAI),
    ],
)
def test_the_dialect_of_a_path(path: bytes, dialect: Dialect) -> None:
    assert dialect_of(path) is dialect


@pytest.mark.parametrize("code", CODES)
def test_every_error_of_ours_in_both(code: str) -> None:
    error = RouterError(code, "words")
    assert document(error, Dialect.OPENAI) == {
        "error": {"message": "words", "type": CODES[code].type, "param": None, "code": code}
    }
    theirs = document(error, Dialect.ANTHROPIC)
    assert theirs["type"] == "error"
    assert theirs["request_id"] == "req-1"
    assert theirs["error"]["type"] in ANTHROPIC_TYPES
    assert (theirs["error"]["message"], theirs["error"]["code"]) == ("words", code)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "n", "type": "BadRequestError", "param": None, "code": 400}}),
        (400, {"object": "error", "message": "n", "type": "BadRequestError", "param": None, "code": 400}),
        (422, {"error": "n", "error_type": "validation"}),
        (422, {"detail": "n"}),
        (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "n"}, "request_id": "theirs"}),
        (400, {"error": {"message": "n", "code": 12345, "type": ["x"]}}),
    ],
)
def test_whatever_shape_an_engine_has_clients_get_the_one_of_their_api(status: int, body: object) -> None:
    error = passed_on(status, body)
    ours = document(error, Dialect.OPENAI)
    assert ours.keys() == {"error"}
    fields = ours["error"]
    assert fields["message"] == "n"
    assert isinstance(fields["type"], str)
    assert fields["code"] is None
    assert fields["param"] is None
    theirs = document(error, Dialect.ANTHROPIC)
    assert theirs["error"]["type"] == "invalid_request_error"
    assert theirs["request_id"] == "req-1", "ours, which stands in the headers, too"


def test_further_fields_stay() -> None:
    body = {"error": {"code": 400, "message": "long", "type": "exceed_context_size_error", "n_ctx": 4096}}
    fields = document(passed_on(400, body), Dialect.OPENAI)["error"]
    assert (fields["n_ctx"], fields["code"]) == (4096, "context_length_exceeded")


def test_further_fields_cannot_replace_those_of_the_shape() -> None:
    error = PassedOn(Objection(400, "words", more=(("message", "other"), ("code", 1))))
    fields = document(error, Dialect.OPENAI)["error"]
    assert (fields["message"], fields["code"]) == ("words", None)


@pytest.mark.parametrize("dialect", Dialect)
def test_in_band(dialect: Dialect) -> None:
    error = RouterError("stream_interrupted", "two\nlines")
    event = error_event(error, dialect, b"req-1")
    lines = event.removesuffix(b"\n\n").split(b"\n")
    assert (lines[0] == b"event: error") == (dialect is Dialect.ANTHROPIC)
    assert lines[-1] == b"data: " + error_body(error, dialect, b"req-1")
    assert event.endswith(b"\n\n")
