"""The official Python client, sync and async, with no special settings."""

from __future__ import annotations

from contextlib import AsyncExitStack

import openai
import pytest

from tests.conformance.conftest import MODEL, World
from tests.support.backends import Call, ScriptedBackend, whole
from tests.support.keeping import KeepingEngine
from tests.support.router import RouterProcess, Site

MESSAGES = [{"role": "user", "content": "Say something nice about lanterns."}]


@pytest.fixture
def client(world: World):  # type: ignore[no-untyped-def]
    with openai.OpenAI(base_url=world.base_url, api_key=world.key, max_retries=0) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=8, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer._request_id


def test_stream_says_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, temperature=0)
    text, finish, usage = "", None, None
    stream = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for event in stream:
        for choice in event.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        usage = event.usage or usage
    assert text == whole.choices[0].message.content
    assert finish == "length"
    assert usage is not None
    assert usage.completion_tokens == 12


def test_completions_and_two_choices(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=6, temperature=0)
    assert answer.choices[0].text
    seen = set()
    for event in client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=5, n=2, stream=True):
        seen.update(choice.index for choice in event.choices)
    assert seen == {0, 1}


def test_embeddings(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=MODEL, input=["one", "two"])
    assert len(answer.data) == 2
    assert len(answer.data[0].embedding) > 0


def test_models(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_headers_tell_the_route(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=2)
    assert raw.headers["x-router-backend"].startswith(raw.headers["x-router-region"] + "/")
    assert raw.parse().choices


async def test_async_client(world: World) -> None:
    async with openai.AsyncOpenAI(base_url=world.base_url, api_key=world.key, max_retries=0) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=5, stream=True)
        text = "".join([e.choices[0].delta.content or "" async for e in stream if e.choices])
        assert text


def test_errors_become_the_right_exceptions(world: World, client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as not_found:
        client.chat.completions.create(model="nope", messages=MESSAGES)
    assert not_found.value.code == "unknown_model"
    assert not_found.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=MODEL, messages="text")  # type: ignore[call-overload]
    with openai.OpenAI(base_url=world.base_url, api_key="wrong", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            stranger.chat.completions.create(model=MODEL, messages=MESSAGES)
        with pytest.raises(openai.AuthenticationError):
            list(stranger.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))


def test_rate_limits(world: World) -> None:
    key = world.router.create_key("tiny", plan="tiny")
    with openai.OpenAI(base_url=world.base_url, api_key=key, max_retries=0) as client:
        limits = []
        for _ in range(2):
            raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, max_tokens=1)
            limits.append((raw.headers["x-ratelimit-limit-requests"], raw.headers["x-ratelimit-remaining-requests"]))
        assert limits == [("2", "1"), ("2", "0")]
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    headers = refused.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 30
    assert 0 < int(headers["retry-after-ms"]) <= 30_000
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.value.code == "quota_exhausted"


STATUSES = {
    400: openai.BadRequestError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
    503: openai.InternalServerError,
}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("stream", [False, True])
async def test_every_status_has_its_exception(status: int, stream: bool) -> None:
    async def fail(call: Call) -> None:
        await call.send(whole(status, {"error": {"message": "no", "type": "t", "param": None, "code": status}}))

    async with ScriptedBackend(fail) as b, RouterProcess([Site("a", "a", b.url)], head='[auth]\nmode = "open"') as r:
        async with openai.AsyncOpenAI(base_url=f"{r.url}/v1", api_key="x", max_retries=0) as client:
            with pytest.raises(STATUSES[status]):
                await client.chat.completions.create(model="m", messages=MESSAGES, stream=stream)


async def test_a_broken_stream_raises() -> None:
    async def cut(call: Call) -> None:
        await call.stream("one", "two", finish=False)
        call.close()

    async with ScriptedBackend(cut) as b, RouterProcess([Site("a", "a", b.url)], head='[auth]\nmode = "open"') as r:
        async with openai.AsyncOpenAI(base_url=f"{r.url}/v1", api_key="x", max_retries=0) as client:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            text = ""
            with pytest.raises(openai.APIError):
                async for e in stream:
                    text += e.choices[0].delta.content or ""
            assert text == "onetwo"


@pytest.mark.parametrize("end", ["/v1", "/v1/", "", "/v1/v1", "/openai/v1", "azure"])
async def test_responses_and_models_by_any_base_url(end: str) -> None:
    async with AsyncExitStack() as stack:
        sites = []
        for name in "ab":
            b = await stack.enter_async_context(ScriptedBackend(KeepingEngine(name), model="org/m:7b"))
            sites.append(Site("r", name, b.url))
        head = 'policy = "round_robin"\n[auth]\nmode = "open"'
        r = await stack.enter_async_context(RouterProcess(sites, head=head))
        if end == "azure":
            azure = {"azure_endpoint": r.url, "api_version": "2024-10-21"}
            client: openai.AsyncOpenAI = openai.AsyncAzureOpenAI(**azure, api_key="x", max_retries=0)  # type: ignore[arg-type]
        else:
            client = openai.AsyncOpenAI(base_url=r.url + end, api_key="x", max_retries=0)
        async with client:
            assert (await client.models.retrieve("org/m:7b")).id == "org/m:7b"
            made = [(await client.responses.create(model="org/m:7b", input="hi")).id for _ in range(4)]
            async with client.responses.stream(model="org/m:7b", input="hi") as stream:
                made.append((await stream.get_final_response()).id)
            for name in made:
                again = await client.responses.create(model="org/m:7b", input="and?", previous_response_id=name)
                assert again.output_text == "hello"
                assert (await client.responses.retrieve(name)).id == name
                assert [i.type async for i in client.responses.input_items.list(name)] == ["message"]
                assert (await client.responses.cancel(name)).status == "cancelled"
                await client.responses.delete(name)
                with pytest.raises(openai.NotFoundError):
                    await client.responses.retrieve(name)
                with pytest.raises(openai.NotFoundError) as gone:
                    await client.responses.create(model="org/m:7b", input="and?", previous_response_id=name)
                assert gone.value.code == "previous_response_not_found"
