"""Which ids an answer is kept under, and which ids a request names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import Plan, TokensSection
from router.errors import RouterError
from router.gateway import ingress
from router.gateway.envelope import envelope_of
from router.gateway.keepers import Keeper, Keepers, gone, ids_in
from router.gateway.paths import kept_id, kept_methods
from router.store.memory import MemoryStore
from router.wire.head import RequestHead

CREATED: dict[str, Any] = {"type": "response.created", "sequence_number": 0, "response": {"id": "resp_1", "output": []}}

BEGINNINGS = {
    "whole": (b'{"id":"resp_1","object":"response"}', ["resp_1"]),
    "id at the end": (b' {"output":[{"id":"msg_1"}],"id":"resp_1"}', ["resp_1"]),
    "stream": (b"event: response.created\ndata: " + orjson.dumps(CREATED) + b"\n\n", ["resp_1"]),
    "stream, CR": (b": hi\r\rdata:" + orjson.dumps(CREATED) + b"\r\r", ["resp_1"]),
    "conversation": (b'{"id":"resp_1","conversation":{"id":"conv_1"}}', ["resp_1", "conv_1"]),
    "conversation by id": (b'{"id":"resp_1","conversation":"conv_1"}', ["resp_1", "conv_1"]),
    "no conversation": (b'{"id":"resp_1","conversation":null}', ["resp_1"]),
    "not stored": (b'{"id":"resp_1","store":false}', []),
    "stored": (b'{"id":"resp_1","store":true}', ["resp_1"]),
    "not held to its end": (b'{"id":"resp_1","instructions":"' + b"x" * 70_000, ["resp_1"]),
    "event not held to its end": (b'data: {"response": {"id": "resp_1", "instructions": "' + b"x" * 70_000, ["resp_1"]),
    "of another kind": (b'{"object":"list","data":[]}', []),
    "id is a number": (b'{"id":5}', []),
    "long id": (b'{"id":"resp_' + b"x" * 600 + b'"}', []),
    "an error": (b'{"error":{"message":"no"}}', []),
    "no JSON": (b"<html>", []),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_ids_of_an_answer(name: str) -> None:
    beginning, ids = BEGINNINGS[name]
    assert ids_in(beginning) == ids


@given(st.binary(max_size=200) | st.sampled_from([b for b, _ in BEGINNINGS.values()]), st.integers(0, 400))
def test_no_beginning_of_an_answer_is_too_odd(data: bytes, cut: int) -> None:
    assert all(isinstance(name, str) and name for name in ids_in(data[:cut]))


@pytest.mark.parametrize(
    "capture", sorted((Path(__file__).parents[1] / "data" / "captures").rglob("*responses*.response.http"))
)
def test_real_answers_have_an_id(capture: Path) -> None:
    body = capture.read_bytes().partition(b"\r\n\r\n")[2]
    assert [name[:5] for name in ids_in(body)] == ["resp_"]


def kept(body: dict[str, Any], path: bytes = b"/v1/responses") -> ingress.Kept | None:
    head = RequestHead(b"POST", path, True, {}, True)
    return ingress.read(envelope_of(head), orjson.dumps({"model": "m", **body}), TokensSection()).kept


def test_what_a_request_continues() -> None:
    named = kept({"previous_response_id": "resp_1", "conversation": "conv_1"})
    assert named is not None
    assert (named.id, named.param) == ("resp_1", "previous_response_id")
    for form in ("conv_1", {"id": "conv_1"}):
        named = kept({"previous_response_id": None, "conversation": form})
        assert named is not None
        assert (named.id, named.param) == ("conv_1", "conversation")
    for other in ({}, {"previous_response_id": None}, {"previous_response_id": ""}, {"conversation": {}}):
        assert kept(other) is None
    assert kept({"previous_response_id": 5}) is None  # the engine's to judge
    assert kept({"previous_response_id": "resp_1"}, b"/v1/chat/completions") is None


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        (b"GET", b"/v1/responses/resp_1", "resp_1"),
        (b"DELETE", b"/v1/responses/resp_1", "resp_1"),
        (b"GET", b"/v1/responses/resp_1/input_items", "resp_1"),
        (b"POST", b"/v1/responses/resp_1/cancel", "resp_1"),
        (b"POST", b"/v1/responses/compact", None),
        (b"POST", b"/v1/responses/input_tokens", None),
        (b"POST", b"/v1/responses", None),
        (b"GET", b"/v1/responses", None),
        (b"HEAD", b"/v1/responses/resp_1", None),
        (b"GET", b"/v1/responses/resp_1/output", None),
        (b"GET", b"/v1/responses/a%2Fb", "a/b"),
        (b"GET", b"/v1/responses/resp_bGl0ZWxsbQ%3D%3D", "resp_bGl0ZWxsbQ=="),
        (b"GET", b"/v1/responses/resp_bGl0ZWxsbQ==", "resp_bGl0ZWxsbQ=="),
        (b"GET", b"/v1/responses/..", None),
        (b"DELETE", b"/v1/responses/../input_items", None),
    ],
)
def test_what_a_path_asks_about(method: bytes, path: bytes, name: str | None) -> None:
    assert kept_id(method, path) == name


def test_which_methods_there_are() -> None:
    assert kept_methods(b"/v1/responses/resp_1") == b"DELETE, GET"
    assert kept_methods(b"/v1/responses/resp_1/cancel") == b"POST"
    assert kept_methods(b"/v1/responses") == b""


async def test_a_note_is_for_its_tenant_and_ends() -> None:
    now = [0.0]
    store = MemoryStore({"default": Plan("default")}, monotonic_s=lambda: now[0], wall_s=lambda: now[0])
    keepers = Keepers(store)
    keepers.remember("t", b'{"id":"resp_1"}', Keeper("us/a", "org/m"), 60.0)
    assert await keepers.find("t", "resp_1") == Keeper("us/a", "org/m")
    assert await keepers.find("u", "resp_1") is None
    assert await keepers.find("t", "resp_2") is None
    assert await keepers.find("t", "x" * 10_000) is None
    now[0] = 61.0
    assert await keepers.find("t", "resp_1") is None
    keepers.remember("t", b'{"id":"resp_1"}', Keeper("us/b", "m"), 60.0)
    keepers.forget("t", "resp_1")
    assert await keepers.find("t", "resp_1") is None


def test_gone_is_in_the_words_of_openai() -> None:
    error = gone(ingress.Kept("resp_1", "previous_response_id"))
    assert isinstance(error, RouterError)
    assert (error.status, error.code, error.param) == (404, "previous_response_not_found", "previous_response_id")
    assert error.detail == "Previous response with id 'resp_1' not found."
    assert gone(ingress.Kept("resp_1")).detail == "Response with id 'resp_1' not found."
    assert len(gone(ingress.Kept("x" * 100_000)).detail) < 600


def test_a_reference_of_no_kind() -> None:
    assert ingress.reference(msgspec.Raw(b"[1]")) is None
    assert ingress.reference(msgspec.Raw(b'{"id":{}}')) is None
