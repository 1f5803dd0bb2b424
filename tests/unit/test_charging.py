"""The charge of a request: by who really answered."""

from __future__ import annotations

import orjson
import pytest

from router.core.limits import MICRO
from router.gateway.auth import anonymous_key
from tests.support.legs import begun, moved, role, usage
from tests.support.playbook import DONE, HEAD, Playbook, chat, configuration, event, post, whole

PLAN = "[plans.default]\nbudget_usd_month = 1000\n"
MODELS = '["m", "small"]'
#: of a whole answer of the playbook
PROMPT, OUTPUT = 7, 3


def book_of(monkeypatch: pytest.MonkeyPatch, text: str, own: str = "", models: str = MODELS) -> Playbook:
    """``own``: keys of the last backend, eu-west/a."""
    return Playbook(monkeypatch, configuration(f"{HEAD}\n{PLAN}\n{text}", models=models) + f"\n{own}\n")


async def spent(book: Playbook) -> int:
    """In millionths of a dollar."""
    key = anonymous_key(book.app.lifecycle.force.settings.config.plans["default"])
    (state,) = await book.app.store.quota(key)
    return round(state.used * MICRO)


async def one(book: Playbook, model: str) -> None:
    client = book.client()
    client.send(chat(model=model))
    await book.turn()
    book.asked.answers(body=whole())
    assert client.answer.status == 200
    book.at_rest()


PRICED = """
[models.chat]
targets = [{ model = "m" }]
fallbacks = ["small"]
price_usd_per_mtok = { input = 100, output = 1000 }
"""
ALIAS_COST = PROMPT * 100 + OUTPUT * 1000


async def test_the_raw_name_of_a_model_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, PRICED)
    await one(book, "chat")
    assert await spent(book) == ALIAS_COST
    await one(book, "m")
    assert await spent(book) == 2 * ALIAS_COST
    await one(book, "small")
    assert await spent(book) == 3 * ALIAS_COST


async def test_the_model_that_answers_has_its_own_price(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, PRICED + "[models.m]\nprice_usd_per_mtok = { input = 1, output = 2 }\n")
    await one(book, "chat")
    assert await spent(book) == PROMPT * 1 + OUTPUT * 2


async def test_a_fallback_is_charged_at_its_own_price(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = "[models.small]\nprice_usd_per_mtok = { input = 1, output = 2 }\n"
    fleet = configuration(f"{HEAD}\n{PLAN}\n{PRICED}{cheap}", models='["small"]')
    book = Playbook(monkeypatch, fleet)
    await one(book, "chat")
    assert book.records[0].served_model == "small"
    assert await spent(book) == PROMPT * 1 + OUTPUT * 2


async def test_the_default_is_charged_for_what_has_no_price(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, "[prices]\ndefault = { input = 3, output = 5 }\n")
    await one(book, "m")
    assert await spent(book) == PROMPT * 3 + OUTPUT * 5


async def test_a_backend_has_its_own_price(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, PRICED, "price_usd_per_mtok = { input = 7, output = 9 }")
    client = book.client()
    client.send(chat(model="m", headers={"x_router_region": "eu-west"}))
    await book.turn()
    book.backend("eu-west/a").answers(body=whole())
    assert client.answer.status == 200
    assert await spent(book) == PROMPT * 7 + OUTPUT * 9


async def test_a_continuation_is_charged_by_who_gave_which_part(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, PRICED, "price_usd_per_mtok = { input = 7, output = 9 }")
    client, first = await begun(book, event("a"), event("b"), request=chat(model="m", stream=True, max_tokens=50))
    book.backend("us-east/b").refuses = book.backend("us-east/a").refuses = True
    first.dies()
    second = await moved(book, first, tokens=2)
    assert second is book.backend("eu-west/a")
    second.streams(role("c2"), event("c"), event("d"), event("e", finish="stop"), usage(9, 3), DONE, end=True)
    assert b"[DONE]" in client.answer.body
    record = book.records[0]
    assert (record.prompt_tokens, record.output_tokens) == (7, 5)
    assert await spent(book) == 7 * 100 + 2 * 1000 + 3 * 9
    book.at_rest()


async def test_the_most_that_it_may_cost_is_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, PRICED, "price_usd_per_mtok = { input = 7, output = 9000 }")
    client = book.client()
    client.send(chat(model="m", max_tokens=100))
    await book.turn()
    assert await spent(book) >= 100 * 9000, "the dear backend might have answered"
    book.asked.answers(body=whole())
    assert await spent(book) == ALIAS_COST


@pytest.mark.parametrize(
    ("headers", "dear"),
    [
        ({}, True),
        ({"x_router_region": "us-east"}, False),
        ({"x_router_region": "eu-west"}, True),
        ({"x_router_residency": "us"}, False),
        ({"x_router_residency": "eu"}, True),
    ],
)
@pytest.mark.parametrize("told", [True, False])
async def test_only_backends_that_may_answer_count(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], dear: bool, told: bool
) -> None:
    """A dollar at the dear backend is not needed by a request that cannot go there, whether the file names the models of
    backends or they were asked."""
    own = "price_usd_per_mtok = { input = 7, output = 9000 }"
    book = book_of(monkeypatch, "[prices]\ndefault = { input = 1, output = 2 }\n", own, models=MODELS if told else "[]")
    for backend in book.app.fleet.backends if not told else ():
        book.app.fleet.observe_models(backend, ["m", "small"], book.now_s)
    client = book.client()
    client.send(chat(model="m", max_tokens=100, headers=headers))
    await book.turn()
    assert (await spent(book) >= 100 * 9000) is dear
    book.asked.answers(body=whole())
    assert client.answer.status == 200


@pytest.mark.parametrize("why", ["drained", "another model", "leaves"])
async def test_a_backend_that_gets_nothing_does_not_count(monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    own = "price_usd_per_mtok = { input = 7, output = 9000 }"
    if why == "another model":
        own += '\nmodels = ["other"]'
    fleet = configuration(f"{HEAD}\n{PLAN}\n[prices]\ndefault = {{ input = 1, output = 2 }}\n", models="[]")
    fleet = fleet.replace("models = []", "") + f"\n{own}\n"
    book = Playbook(monkeypatch, fleet)
    for backend in ("us-east/a", "us-east/b", "eu-west/a"):
        if backend != "eu-west/a" or why != "another model":
            book.app.fleet.observe_models(backend, ["m"], book.now_s)
    if why == "drained":
        book.app.fleet.set_draining("eu-west/a", True)
    elif why == "leaves":
        book.app.fleet.set_draining("eu-west", True)
    client = book.client()
    client.send(chat(model="m", max_tokens=100))
    await book.turn()
    assert await spent(book) < 1000
    book.asked.answers(body=whole())
    if why == "drained":
        book.app.fleet.set_draining("eu-west/a", False)
        client = book.client()
        client.send(chat(model="m", max_tokens=100))
        await book.turn()
        assert await spent(book) >= 9000, "it is back"
        book.asked.answers(body=whole())


async def test_a_small_budget_is_not_refused_for_the_price_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    own = "price_usd_per_mtok = { input = 7, output = 9000 }"
    text = f"{HEAD}\n[plans.default]\nbudget_usd_day = 0.1\n[prices]\ndefault = {{ input = 1, output = 2 }}\n"
    book = Playbook(monkeypatch, configuration(text, models=MODELS) + f"\n{own}\n")
    for headers, status in (({"x_router_residency": "us"}, 200), ({}, 429)):
        client = book.client()
        client.send(chat(model="m", max_tokens=100, headers=headers))
        await book.turn()
        if status == 200:
            book.asked.answers(body=whole())
        assert client.answer.status == status
    assert await spent(book) == PROMPT * 1 + OUTPUT * 2


@pytest.mark.parametrize("kind", ["budget_usd_month", "budget_usd_day"])
@pytest.mark.parametrize("whose", ["plans.default", "tenants.default", "all"])
async def test_a_guess_never_makes_a_request_impossible(monkeypatch: pytest.MonkeyPatch, kind: str, whose: str) -> None:
    text = f"{HEAD}\n[{whose}]\n{kind} = 0.01\n[prices]\ndefault = {{ input = 1, output = 100 }}\n"
    if whose != "plans.default":
        text += "[plans.default]\n"
    book = Playbook(monkeypatch, configuration(text, models=MODELS))
    for number in range(30):  # each costs 307 of 10 000 millionths; a guess of 256 tokens is 25 600
        client = book.client()
        client.send(chat(model="m", max_tokens=None))
        await book.turn()
        assert not client.heard, f"request {number} was refused"
        book.asked.answers(body=whole())
        assert client.answer.status == 200


PATHS = ["/v1/embeddings", "/v1/rerank", "/v2/rerank", "/rerank", "/score", "/classify", "/pooling", "/v1/moderations"]


@pytest.mark.parametrize("path", PATHS)
async def test_who_writes_nothing_reserves_no_answer(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    plan = "[plans.default]\ntokens_per_minute = 100\noutput_tokens_per_minute = 1\nbudget_usd_day = 0.0001\n"
    prices = "[prices]\ndefault = { input = 1, output = 1000 }\n"
    book = Playbook(monkeypatch, configuration(f"{HEAD}\n{plan}{prices}"))
    for _ in range(5):
        client = book.client()
        client.send(post(path, b'{"model": "m", "input": "Hi", "query": "Hi", "documents": ["Ho"], "max_tokens": 500}'))
        await book.turn()
        await at_most(book, {"output_tokens": 0, "budget_day": 100e-6})
        book.asked.answers(body=NOTHING_WRITTEN)
        assert client.answer.status == 200
    await at_most(book, {"output_tokens": 0, "tokens": 100, "budget_day": 100e-6})


NOTHING_WRITTEN = (
    b'{"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5], "score": 0.5}],'
    b' "results": [{"index": 0, "relevance_score": 0.5}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}'
)


async def at_most(book: Playbook, most: dict[str, float]) -> None:
    key = anonymous_key(book.app.lifecycle.force.settings.config.plans["default"])
    used = {state.limit: state.used for state in await book.app.store.quota(key)}
    assert {name: used[name] for name in most if used[name] > most[name] + 1e-9} == {}


@pytest.mark.parametrize(
    "limit", ["tokens_per_minute = 300", "output_tokens_per_minute = 300", "budget_usd_day = 0.0003"]
)
async def test_short_answers_do_not_make_an_impossible_request_possible(
    monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    text = f"{HEAD}\n[plans.default]\n{limit}\n[prices]\ndefault = {{ input = 0, output = 1 }}\n"
    book = Playbook(monkeypatch, configuration(text))
    for number in range(6):
        client = book.client()
        client.send(chat(max_tokens=400))
        await book.turn()
        assert client.answer.status == 429, f"after {number} short answers"
        assert "waiting does not help" in client.answer.error["message"]
        assert "retry-after" not in client.answer.headers
        client = book.client()
        client.send(chat(max_tokens=20))
        await book.turn()
        book.asked.answers(body=whole())
        assert client.answer.status == 200


async def test_what_costs_more_than_is_left_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = PRICED.replace("1000 }", "1000000 }")  # a dollar a token
    book = Playbook(monkeypatch, configuration(f"{HEAD}\n[plans.default]\nbudget_usd_day = 5\n{text}", models=MODELS))
    for model, status in (("m", 200), ("m", 429), ("chat", 429)):
        client = book.client()
        client.send(chat(model=model, max_tokens=3))
        await book.turn()
        if status == 200:
            book.asked.answers(body=whole())
        assert client.answer.status == status
    assert book.records[0].limit == "budget_day"
    assert "of this day" in client.answer.error["message"]


@pytest.mark.parametrize("kind", ["prompt_tokens", "output_tokens"])
async def test_prompt_and_output_tokens_are_counted_apart(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    plan = f"[plans.default]\n{kind}_per_minute = 1000\n"
    book = Playbook(monkeypatch, configuration(f"{HEAD}\n{plan}"))
    client = book.client()
    client.send(chat())
    await book.turn()
    book.asked.answers(body=whole())
    assert client.answer.status == 200
    key = anonymous_key(book.app.lifecycle.force.settings.config.plans["default"])
    (state,) = await book.app.store.quota(key)
    assert (state.limit, state.used) == (kind, PROMPT if kind == "prompt_tokens" else OUTPUT)
    client = book.client()
    client.send(chat(max_tokens=2000, messages=[{"role": "user", "content": "word " * 5000}]))
    await book.turn()
    if kind == "prompt_tokens":
        assert client.answer.status == 429
        assert "prompt tokens per minute" in client.answer.error["message"]
    else:  # a maximum beyond the limit takes the whole of it, when it is there
        assert client.answer.status == 429
        assert "output tokens per minute" in client.answer.error["message"]


async def test_a_plan_has_the_models_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Playbook(monkeypatch, configuration(f'{HEAD}\n[plans.default]\nmodels = ["chat"]\n{PRICED}', models=MODELS))
    for model in ("m", "small", "nobody"):
        client = book.client()
        client.send(chat(model=model))
        await book.turn()
        assert (client.answer.status, client.answer.error["code"]) == (403, "forbidden")
        assert model in client.answer.error["message"]
        assert "chat" in client.answer.error["message"]
    assert [r.error for r in book.records] == ["forbidden"] * 3
    await one(book, "chat")
    client = book.client()
    client.send(b"GET /v1/models HTTP/1.1\r\nhost: test\r\n\r\n")
    assert [entry["id"] for entry in orjson.loads(client.answer.body)["data"]] == ["chat"]
    for model, status in (("chat", 200), ("m", 404)):
        client = book.client()
        client.send(f"GET /v1/models/{model} HTTP/1.1\r\nhost: test\r\n\r\n".encode())
        assert client.answer.status == status
    book.at_rest()
