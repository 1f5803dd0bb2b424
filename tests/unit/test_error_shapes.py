"""Errors in the dialect of their route: OpenAI's everywhere, Anthropic's on Anthropic's, whole and in band."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from router.errors import CODES, RouterError
from router.gateway.error_shapes import Dialect, dialect_of, error_body, error_event
from router.gateway.exchange import PassedOn
from router.gateway.paths import path_of
from router.upstream.classify import Objection, end_of_answer
from tests.support.playbook import HEAD, Playbook, configuration

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
    assert dialect_of(path_of(path)) is dialect


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


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/none", "/models/", "/v1/chat/completions"])
@pytest.mark.parametrize("version", [True, False])
async def test_both_apis_have_models(monkeypatch: pytest.MonkeyPatch, path: str, version: bool) -> None:
    """Who sends Anthropic's version reads Anthropic's errors, there and nowhere else."""
    client = Playbook(monkeypatch, configuration('[router]\nname = "test"\n')).client()
    line = "anthropic-version: 2023-06-01\r\n" if version else ""
    client.send(f"GET {path} HTTP/1.1\r\nhost: a\r\n{line}\r\n".encode())
    answer = client.answer
    assert answer.status == (405 if "chat" in path else 401)
    assert ("type" in answer.json) is (version and "models" in path)


PAGE = "https://chat.example.com"
CORS = HEAD + f'[cors]\norigins = ["{PAGE}"]\n[limits]\nbody_bytes = 1024\n'
#: What is refused before it is read: how it begins, and what becomes of it.
EARLY = {
    "a body over the limit": ("POST /v1/messages HTTP/1.1\r\nhost: a{0}content-length: 9999\r\n\r\n", 413),
    "chunks over the limit": ("POST / HTTP/1.1\r\nhost: a{0}transfer-encoding: chunked\r\n\r\nffff\r\n", 413),
    "chunks that are none": ("POST / HTTP/1.1\r\nhost: a{0}transfer-encoding: chunked\r\n\r\nno\r\n", 400),
    "a body that does not come": ("POST /v1/messages HTTP/1.1\r\nhost: a{0}content-length: 9\r\n\r\n", 408),
    "a head that does not end": ("POST /v1/messages HTTP/1.1\r\nhost: a{0}x: ", 408),
    "a head over the limit": ("POST / HTTP/1.1\r\nhost: a{0}x: " + "x" * 40_000, 431),
    "too many headers": ("POST / HTTP/1.1\r\nhost: a{0}" + "x: y\r\n" * 200 + "\r\n", 431),
    "a target over the limit": ("POST /" + "x" * 10_000 + " HTTP/1.1\r\nhost: a{0}\r\n", 414),
    "no strict head": ("POST / HTTP/1.1\r\nhost: a{0}x : y\r\n\r\n", 400),
}


@pytest.mark.parametrize("case", EARLY)
@pytest.mark.parametrize("origin", [PAGE, "https://evil.example", ""])
async def test_pages_may_read_why_nothing_was_read(monkeypatch: pytest.MonkeyPatch, case: str, origin: str) -> None:
    book = Playbook(monkeypatch, configuration(CORS))
    client = book.client()
    begin, status = EARLY[case]
    client.send(begin.format(f"\r\nOrigin: {origin}\r\n" if origin else "\r\n").encode())
    for _ in range(40):
        book.advance(1.0)
    answer = client.answer
    assert answer.status == status
    assert answer.headers.get("access-control-allow-origin") == (PAGE if origin == PAGE else None)
    assert answer.headers["vary"] == "origin"
    assert ("type" in answer.json) is ("/v1/messages" in begin and "content-length" in begin)
