"""The official JavaScript client, with no special settings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import MODEL, World
from tests.support.node import NEEDS_NODE, OPENAI

pytestmark = NEEDS_NODE

PROGRAM = Path(__file__).with_name("openai_node.mjs")


@pytest.fixture(scope="module")
def seen(world: World) -> dict[str, Any]:
    """What an application written in JavaScript sees."""
    done = subprocess.run(
        ["node", PROGRAM, OPENAI, world.base_url, world.key, MODEL],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_whole_and_streamed_answers_are_the_same(seen: dict[str, Any]) -> None:
    assert seen["whole"]["text"]
    assert seen["stream"]["text"] == seen["helper"]["text"] == seen["whole"]["text"]
    assert seen["stream"]["finish"] == "length"
    assert seen["stream"]["usage"]["completion_tokens"] == seen["whole"]["usage"]["completion_tokens"] == 12


def test_headers_reach_the_application(seen: dict[str, Any]) -> None:
    assert seen["whole"]["requestID"]
    assert seen["headers"]["backend"].startswith(seen["headers"]["region"] + "/")


def test_models_and_embeddings(seen: dict[str, Any]) -> None:
    assert seen["models"] == [MODEL]
    assert seen["embeddings"] == [True, True]


def test_a_stream_can_be_left(seen: dict[str, Any]) -> None:
    assert seen["left"] >= 3


def test_errors_become_the_right_exceptions(seen: dict[str, Any]) -> None:
    unknown = seen["unknownModel"]
    assert (unknown["name"], unknown["status"], unknown["code"]) == ("NotFoundError", 404, "unknown_model")
    assert unknown["requestID"]
    for refused in (seen["wrongKey"], seen["wrongKeyStream"]):
        assert (refused["name"], refused["status"], refused["code"]) == ("AuthenticationError", 401, "unauthorized")
