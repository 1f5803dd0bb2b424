"""A real llama.cpp server behind the router, asked by the official client; and what it costs to lose it."""

from __future__ import annotations

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
