"""Real llama.cpp servers: one of them dies in the middle of an answer, and the answer is the one that it would have been.

The model has one token for each character (``tests/support/gguf``), so every text has exactly one tokenisation.
"""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import llamacpp
from tests.support.gguf import write_ascii_model
from tests.support.llamacpp import LlamaCpp
from tests.support.router import RouterProcess, Site

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(llamacpp.engine_missing() is not None, reason=llamacpp.engine_missing() or ""),
]
MODEL = "ascii"
HEAD = 'region = "us-east"\n[auth]\nmode = "open"\n[timeouts]\ntoken_gap = 2.0\n'
TOKENS = 2500


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "ascii.gguf"
    write_ascii_model(path)
    return path


def events(
    url: str, path: str, body: dict[str, Any], *, after: int = 0, then: Callable[[], None] | None = None
) -> list[Any]:
    """The messages of a stream. ``then`` is done after as many as ``after`` says."""
    data = json.dumps({"model": MODEL, "temperature": 0, "stream": True, **body}).encode()
    request = urllib.request.Request(url + path, data, {"content-type": "application/json"})
    found: list[Any] = []
    with urllib.request.urlopen(request, timeout=60) as reply:
        for line in reply:
            if line.startswith(b"data: {"):
                found.append(json.loads(line[6:]))
                if len(found) == after and then is not None:
                    then()
            elif line.startswith(b"data: "):
                found.append(line[6:].strip().decode())
    return found


def essence(found: list[Any]) -> dict[str, Any]:
    messages = [message for message in found if isinstance(message, dict)]
    choices = [choice for message in messages for choice in message["choices"]]
    parts = [choice.get("delta", choice) for choice in choices]
    return {
        "text": "".join(part.get("content") or part.get("text") or "" for part in parts),
        "roles": sum("role" in part for part in parts),
        "ids": len({message["id"] for message in messages}),
        "ends": [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
        "usages": [
            (message["usage"]["prompt_tokens"], message["usage"]["completion_tokens"])
            for message in messages
            if message.get("usage")
        ],
        "marks": [message for message in found if isinstance(message, str)],
    }


@pytest.fixture
def engines(model: Path) -> Iterator[tuple[RouterProcess, dict[str, LlamaCpp]]]:
    with LlamaCpp(MODEL, model) as a, LlamaCpp(MODEL, model) as b:
        sites = [Site("us-east", "a", a.url, engine="llamacpp"), Site("eu-central", "a", b.url, engine="llamacpp")]
        with RouterProcess(sites, head=HEAD) as r:
            yield r, {"us-east": a, "eu-central": b}


CHAT = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM], ids=lambda how: how.name)
@pytest.mark.parametrize(
    ("path", "asked"),
    [("/v1/chat/completions", CHAT), ("/v1/completions", {"prompt": "hello"})],
    ids=["chat", "completions"],
)
def test_the_other_engine_goes_on(
    engines: tuple[RouterProcess, dict[str, LlamaCpp]], path: str, asked: dict[str, Any], how: signal.Signals
) -> None:
    r, by_region = engines
    body = {**asked, "max_tokens": TOKENS, "stream_options": {"include_usage": True}}
    undisturbed = events(by_region["eu-central"].url, path, body)
    near = by_region["us-east"].process.pid
    try:
        answer = events(r.url, path, body, after=100, then=lambda: os.kill(near, how))
    finally:
        if how is signal.SIGSTOP:
            os.kill(near, signal.SIGCONT)
    assert essence(answer) == essence(undisturbed)
    (record,) = r.ask_admin("/admin/v1/requests")["data"]
    assert record["attempts"] == 2
    assert record["backend"] == "eu-central/a"
