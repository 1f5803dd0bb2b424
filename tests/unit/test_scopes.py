"""The scopes of limits: a request takes from all its accounts or from none, and a refusal says whose limit it is."""

from __future__ import annotations

import pytest

from router.core.limits import MICRO
from router.core.scopes import ALL, BY_NAME, KEY, MODEL, SCOPES, TENANT
from router.gateway.auth import anonymous_key
from router.store.groups import Groups
from tests.support.playbook import HEAD, Client, Playbook, chat, configuration, whole

MODELS = '["m", "small"]'
#: of a whole answer of the playbook
PROMPT, OUTPUT = 7, 3


def test_the_list() -> None:
    assert list(BY_NAME.values()) == list(SCOPES)
    assert TENANT.account("acme") == "tenant:acme"
    assert MODEL.account("m") == "model:m"
    assert ALL.account("all") == "all"
    assert [scope.called("x") for scope in SCOPES] == ['key "x"', 'tenant "x"', 'model "x"', "all requests together"]
    assert KEY is SCOPES[0], "a key that is over its own limit is not told of others"


def book_of(monkeypatch: pytest.MonkeyPatch, text: str, models: str = MODELS) -> Playbook:
    return Playbook(monkeypatch, configuration(HEAD.replace('"open"', '"keys"') + text, models=models))


async def key_of(book: Playbook, name: str, tenant: str, plan: str = "default") -> str:
    _, secret = await book.app.store.create_key(name, plan, tenant)
    return secret


async def ask(book: Playbook, secret: str, model: str = "m", **fields: object) -> Client:
    client = book.client()
    client.send(chat(model=model, headers={"authorization": f"Bearer {secret}"}, **fields))
    await book.turn()
    return client


async def answered(book: Playbook, secret: str, model: str = "m", **fields: object) -> Client:
    client = await ask(book, secret, model, **fields)
    if not client.heard:
        book.asked.answers(body=whole())
    return client


async def used(book: Playbook, account: str) -> dict[str, float]:
    """The use that an account shows; a key is named by its name."""
    store = book.app.store
    holders = {key.name: key for key in await store.list_keys()}
    groups = Groups(book.app.lifecycle.force.settings.config).every({key.tenant for key in holders.values()})
    found = (holders | {group.id: group for group in groups})[account]
    return {
        state.limit: round(state.used * (MICRO if "budget" in state.limit else 1)) for state in await store.quota(found)
    }


async def test_a_tenants_keys_share_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(
        monkeypatch,
        "[plans.default]\nrequests_per_minute = 10\n[tenants.acme]\nrequests_per_minute = 3\n",
    )
    a, b, c = await key_of(book, "a", "acme"), await key_of(book, "b", "acme"), await key_of(book, "c", "other")
    for secret in (a, b, a):
        assert (await answered(book, secret)).answer.status == 200
    refused = await ask(book, b)
    assert (refused.answer.status, refused.answer.error["code"]) == (429, "quota_exhausted")
    message = refused.answer.error["message"]
    assert 'The limit is requests_per_minute of tenant "acme".' in message
    assert "3 of 3 requests per minute" in message
    assert refused.answer.headers["retry-after"] == "20"
    assert refused.answer.headers["x-ratelimit-limit-requests"] == "3"
    record = book.records[0]
    assert (record.limit, record.limit_scope, record.limit_of) == ("requests", "tenant", "acme")
    assert (await used(book, "b"))["requests"] == 1, "nothing was taken from the key"
    assert (await used(book, "tenant:acme"))["requests"] == 3
    assert (await answered(book, c)).answer.status == 200, "another tenant"
    book.at_rest()


async def test_a_refusal_by_the_key_names_its_plan_and_takes_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(
        monkeypatch,
        "[plans.default]\n[plans.tiny]\nrequests_per_minute = 1\n[tenants.acme]\nrequests_per_minute = 100\n",
    )
    a = await key_of(book, "alice", "acme", "tiny")
    assert (await answered(book, a)).answer.status == 200
    refused = await ask(book, a)
    assert refused.answer.status == 429
    assert 'The limit is requests_per_minute of plan "tiny", key "alice".' in refused.answer.error["message"]
    assert (book.records[0].limit_scope, book.records[0].limit_of) == ("key", "alice")
    assert (await used(book, "tenant:acme"))["requests"] == 1


async def test_the_default_is_for_each_tenant_without_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(
        monkeypatch,
        "[tenants.default]\nrequests_per_minute = 1\n[tenants.big]\nrequests_per_minute = 2\n[tenants.free]\n",
    )
    for tenant, times in (("x", 1), ("y", 1), ("big", 2), ("free", 5)):
        secret = await key_of(book, f"of {tenant}", tenant)
        for _ in range(times):
            assert (await answered(book, secret)).answer.status == 200
        assert (await answered(book, secret)).answer.status == (200 if tenant == "free" else 429)


async def test_a_model_has_its_limit_under_each_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(
        monkeypatch,
        '[models.chat]\ntargets = [{ model = "m" }]\n[models.m]\nrequests_per_minute = 2\n',
    )
    a, b = await key_of(book, "a", "x"), await key_of(book, "b", "y")
    assert (await answered(book, a, "m")).answer.status == 200
    assert (await answered(book, b, "chat")).answer.status == 200
    refused = await ask(book, a, "chat")
    assert refused.answer.status == 429
    assert 'requests_per_minute of model "m"' in refused.answer.error["message"]
    assert (await answered(book, a, "small")).answer.status == 200


async def test_all_requests_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, "[all]\nconcurrent = 2\n")
    a, b = await key_of(book, "a", "x"), await key_of(book, "b", "y")
    first, second = await ask(book, a), await ask(book, b)
    refused = await ask(book, a)
    assert refused.answer.status == 429
    assert "concurrent of all requests together" in refused.answer.error["message"]
    assert (await used(book, "all"))["concurrent"] == 2
    first.leave()
    second.leave()
    await book.turn()
    assert (await used(book, "all"))["concurrent"] == 0
    book.at_rest()


async def test_every_account_is_settled_to_the_real_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = "prompt_tokens_per_minute = 100000\noutput_tokens_per_minute = 100000\nbudget_usd_day = 100\n"
    book = book_of(
        monkeypatch,
        f"[plans.default]\n[tenants.acme]\n{limits}[models.m]\n{limits}[all]\n{limits}"
        "[prices]\ndefault = { input = 10, output = 100 }\n",
    )
    a = await key_of(book, "a", "acme")
    assert (await answered(book, a, max_tokens=500)).answer.status == 200
    for account in ("tenant:acme", "model:m", "all"):
        assert await used(book, account) == {
            "prompt_tokens": PROMPT,
            "output_tokens": OUTPUT,
            "budget_day": PROMPT * 10 + OUTPUT * 100,
        }


async def test_a_request_that_fails_pays_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, "[tenants.acme]\nrequests_per_minute = 10\n[all]\nconcurrent = 2\n")
    a = await key_of(book, "a", "acme")
    client = await ask(book, a)
    book.asked.answers(400, b'{"error": {"message": "no"}}')
    assert client.answer.status == 400
    assert await used(book, "tenant:acme") == {"requests": 0}
    assert await used(book, "all") == {"concurrent": 0}


async def test_a_fallback_is_charged_to_the_model_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(
        monkeypatch,
        '[models.chat]\ntargets = [{ model = "m" }]\nfallbacks = ["small"]\ntokens_per_minute = 1000\n'
        "[models.m]\ntokens_per_minute = 1000\n[models.small]\ntokens_per_minute = 1000\n",
        models='["small"]',
    )
    a = await key_of(book, "a", "acme")
    assert (await answered(book, a, "chat")).answer.status == 200
    assert book.records[0].served_model == "small"
    for account, tokens in (("model:chat", 10), ("model:m", 0), ("model:small", 10)):
        assert await used(book, account) == {"tokens": tokens}, account


async def test_the_headers_tell_the_tightest_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(
        monkeypatch,
        "[plans.default]\nrequests_per_minute = 100\n[tenants.acme]\nrequests_per_minute = 50\ntokens_per_minute = 5000\n",
    )
    client = await answered(book, await key_of(book, "a", "acme"))
    headers = client.answer.headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("50", "49")
    assert headers["x-ratelimit-limit-tokens"] == "5000"


async def test_a_guess_refuses_nobody_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, "[tenants.acme]\noutput_tokens_per_minute = 100\n")
    a = await key_of(book, "a", "acme")
    assert (await answered(book, a)).answer.status == 200, "no maximum was asked for"


async def test_everybody_without_a_key_is_a_tenant_too(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Playbook(monkeypatch, configuration(HEAD + "[tenants.anonymous]\nrequests_per_minute = 1\n"))
    for status in (200, 429):
        client = book.client()
        client.send(chat())
        await book.turn()
        if status == 200:
            book.asked.answers(body=whole())
        assert client.answer.status == status
    assert anonymous_key(book.app.lifecycle.force.settings.config.plans["default"]).scope is KEY


async def test_without_such_limits_a_request_has_no_company(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of(monkeypatch, "[plans.default]\nrequests_per_minute = 5\n[tenants.acme]\n")
    assert not book.app.lifecycle.force.settings.groups.any
    client = await ask(book, await key_of(book, "a", "acme"))
    (x,) = book.app.lifecycle.live
    assert x.company is None
    assert x.reservation is not None
    assert x.reservation.others == ()
    client.leave()
