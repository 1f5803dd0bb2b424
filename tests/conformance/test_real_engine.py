"""A real llama.cpp server behind the router, asked by the official client; and what it costs to lose it."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests.support import llamacpp
from tests.support.llamacpp import LlamaCpp
from tests.support.router import RouterProcess, Site

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(llamacpp.missing() is not None, reason=llamacpp.missing() or ""),
]

MODEL = "smollm2"
ASK = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]
TOKENS = 1500
HEAD = '[auth]\nmode = "open"\n'


@pytest.fixture(scope="module")
def world():  # type: ignore[no-untyped-def]
    with LlamaCpp(MODEL) as a, LlamaCpp(MODEL) as b:
        sites = [Site("us-east", "a", a.url, engine="llamacpp"), Site("eu-central", "a", b.url, engine="llamacpp")]
        with RouterProcess(sites, head=HEAD) as r:
            yield r, {"us-east": a, "eu-central": b}


@pytest.fixture
def client(world):  # type: ignore[no-untyped-def]
    with openai.OpenAI(base_url=f"{world[0].url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_it_writes_sense_streamed_or_not(world, client: openai.OpenAI) -> None:  # type: ignore[no-untyped-def]
    r, _ = world
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=24, temperature=0)
    answer = raw.parse()
    assert "Paris" in (answer.choices[0].message.content or "")
    record = r.record(raw.headers["x-request-id"])
    assert answer.usage is not None
    assert (record["prompt_tokens"], record["output_tokens"]) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )
    text = ""
    for event in client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=24, temperature=0, stream=True):
        text += (event.choices[0].delta.content or "") if event.choices else ""
    assert text == answer.choices[0].message.content


def without_chance(value: Any) -> Any:
    """Of an answer: its members in order, without those that differ between any two answers of an engine."""
    chance = {"id", "created", "timings", "cached_tokens"}
    if isinstance(value, dict):
        return [(name, None if name in chance else without_chance(inner)) for name, inner in value.items()]
    return [without_chance(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": ASK}),
        ("/v1/chat/completions", {"messages": ASK, "stop": [" of"]}),
        ("/v1/chat/completions", {"messages": ASK, "stop": ["The"]}),
        ("/v1/completions", {"prompt": "The capital of France"}),
    ],
)
def test_a_whole_answer_is_the_one_that_the_engine_gives(world, path: str, fields: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    r, engines = world
    body = {"model": MODEL, "max_tokens": 12, "temperature": 0, **fields}
    answers = []
    for url in (r.url, engines["us-east"].url):
        with post(url + path, body) as answer:
            answers.append(json.loads(answer.read()))
    assert without_chance(answers[0]) == without_chance(answers[1])


def test_a_client_that_leaves_a_whole_answer_stops_the_engine(world) -> None:  # type: ignore[no-untyped-def]
    """Asked for a whole answer, the engine itself would go on to its end."""
    r, engines = world

    def pages(path: str) -> list[str]:
        return [urllib.request.urlopen(e.url + path, timeout=30).read().decode() for e in engines.values()]

    def busy() -> int:
        return sum(slot["is_processing"] for page in pages("/slots") for slot in json.loads(page))

    def written() -> float:
        lines = (line for page in pages("/metrics") for line in page.splitlines())
        return sum(float(line.split()[1]) for line in lines if line.startswith("llamacpp:tokens_predicted_total"))

    before = written()
    document = json.dumps({"model": MODEL, "messages": ASK, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-length: {len(document)}\r\n\r\n"
    host, port = r.listen.split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall((head + document).encode())
        until(busy)
    until(lambda: not busy())
    (record,) = r.ask_admin("/admin/v1/requests?limit=1")["data"]
    assert (record["cause"], record["stream"]) == ("client_gone", False)
    assert written() - before < TOKENS, "it did not go on to the end"


def post(url: str, body: dict[str, Any]):  # type: ignore[no-untyped-def]
    data = json.dumps(body).encode()
    return urllib.request.urlopen(urllib.request.Request(url, data, {"content-type": "application/json"}), timeout=60)


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_its_metrics_and_models_are_read(world) -> None:  # type: ignore[no-untyped-def]
    r, _ = world
    for backend in r.ask_admin("/admin/v1/backends")["data"]:
        assert backend["models"] == [MODEL]
        assert backend["queue"] == 0
        assert backend["running"] is not None
        assert backend["rtt_s"] < 1.0


def test_its_errors_arrive(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x " * 6000}])
    assert "context" in str(error.value)


def test_another_engine_answers_when_one_is_killed(world, client: openai.OpenAI) -> None:  # type: ignore[no-untyped-def]
    _, engines = world
    engines["us-east"].kill()
    for _ in range(4):
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=ASK, max_tokens=4, temperature=0)
        assert raw.headers["x-router-region"] == "eu-central"
