"""JWTs instead of keys, at a real router with an issuer of the test's own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

pytest.importorskip("jwt")

from tests.support.backends import ScriptedBackend
from tests.support.issuer import AUDIENCE, ISSUER, Issuer, SigningKey, claims, handmade, signed_with_public_key
from tests.support.router import RouterProcess, Site

ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PLANS = '[auth]\nmode = "keys"\n[plans.default]\n[plans.few]\nrequests_per_minute = 4\n'


def section(jwks: str, more: str = "") -> str:
    return f'[jwt]\njwks = "{jwks}"\nissuer = "{ISSUER}"\naudience = ["{AUDIENCE}"]\nplan_claim = "plan"\n{more}'


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as made:
        yield made


@asynccontextmanager
async def router(jwks: str, *, head: str = "", more: str = "") -> AsyncIterator[RouterProcess]:
    async with ScriptedBackend() as b:
        sites = [Site("a", "a", b.url, models=["m"])]
        async with RouterProcess(sites, head=f"{head}{PLANS}{section(jwks, more)}") as r:
            yield r


async def ask(r: RouterProcess, token: str, path: str = "/v1/chat/completions") -> tuple[int, str]:
    """The status, and why it is refused."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {token}"}) as fresh:
        asking = fresh.get(r.url + path) if path == "/v1/models" else fresh.post(r.url + path, json=ASK)
        async with asking as reply:
            document = await reply.json()
            return reply.status, document["error"]["message"] if reply.status >= 400 else ""


async def decided(r: RouterProcess, token: str) -> int:
    """The status, once it is one of the limit: who meets a stall of the machine between router and store asks again."""
    async with asyncio.timeout(30):
        while (status := (await ask(r, token))[0]) == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return status


async def newest(r: RouterProcess, tenant: str) -> dict[str, Any]:
    """The record of the latest request of a tenant."""
    found = [each for each in await asyncio.to_thread(r.records) if each["tenant"] == tenant]
    return await asyncio.to_thread(r.record, found[0]["request_id"])


async def test_what_is_let_in_and_what_is_not(issuer: Issuer) -> None:
    issuer.keys.extend((SigningKey("RS256"), SigningKey("EdDSA")))
    async with router(issuer.url) as r:
        for key in issuer.keys:
            assert (await ask(r, key.sign(claims()), "/v1/models"))[0] in (200, 503)
            assert await ask(r, key.sign(claims())) == (200, "")
        es = issuer.keys[0]
        stranger = SigningKey("ES256", es.kid)
        refused = {
            "has expired": es.sign(claims(exp=int(time.time()) - 100)),
            "is for another audience": es.sign(claims(aud="others")),
            "is of another issuer": es.sign(claims(iss="https://evil.test")),
            "is not valid yet": es.sign(claims(nbf=int(time.time()) + 100)),
            "lacks the claim exp": es.sign(claims(exp=None)),
            "is signed in a way that is not accepted here": handmade({"alg": "none", "kid": es.kid}, claims()),
            "has a signature that is wrong": stranger.sign(claims()),
            "is signed with a key that its issuer does not publish": SigningKey("ES256").sign(claims()),
            "cannot be read": "eyJ.e30.x",
        }
        for why, token in refused.items():
            for path in ("/v1/chat/completions", "/v1/responses"):
                status, message = await ask(r, token, path)
                assert (status, why in message) == (401, True), (why, status, message)
        for key in issuer.keys:
            assert (await ask(r, signed_with_public_key(key, claims())))[0] == 401
        assert (await ask(r, es.sign(claims(sub=None))))[0] == 403
        assert (await ask(r, es.sign(claims(plan="gone"))))[0] == 403
        key = await asyncio.to_thread(r.create_key)
        assert await ask(r, key) == (200, ""), "keys of ours stay in force beside it"
        record = await newest(r, "acme")
        assert (record["key_id"], record["plan"]) == ("jwt:acme", "default")


@pytest.mark.parametrize("head", ["", 'workers = 2\n[store]\nredis = "embedded"\n'], ids=["memory", "workers"])
async def test_a_tenant_has_one_account_whatever_it_comes_with(issuer: Issuer, head: str) -> None:
    async with router(issuer.url, head=head) as r:
        began = time.monotonic()
        tokens = [issuer.sign(plan="few", jti=str(n)) for n in range(5)]
        statuses = Counter([await decided(r, tokens[n % 5]) for n in range(20)])
        refilled = int((time.monotonic() - began) / 15)
        assert set(statuses) == {200, 429}
        assert 4 <= statuses[200] <= 5 + refilled
        assert await decided(r, issuer.sign(plan="few", sub="umbrella")) == 200, "another tenant has its own"


async def test_a_new_key_of_the_issuer_is_sought_and_one_that_is_away_keeps_its_word(issuer: Issuer) -> None:
    async with router(issuer.url) as r:
        old = issuer.sign()
        assert (await ask(r, old))[0] == 200
        issuer.rotate("EdDSA")
        assert await ask(r, issuer.sign()) == (200, ""), "the first request with it"
        assert (await ask(r, old))[0] == 401, "its key is published no more"
        issuer.status = 500
        assert (await ask(r, issuer.sign(jti="new")))[0] == 200
        status, message = await ask(r, SigningKey("ES256").sign(claims()))
        assert status == 503
        assert "its issuer cannot be asked now" in message


async def test_an_issuer_that_is_away_at_the_start_is_told_and_found_later(issuer: Issuer) -> None:
    issuer.status = 503
    async with router(issuer.url) as r:
        status, message = await ask(r, issuer.sign())
        assert status == 503
        assert "the keys of their issuer are not known yet" in message
        key = await asyncio.to_thread(r.create_key)
        assert await ask(r, key) == (200, "")
        issuer.status = 200
        async with asyncio.timeout(30):
            while (await ask(r, issuer.sign()))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        assert "answered 503" in r.log.read_text()


async def test_a_reload_changes_who_has_which_plan_without_a_restart(issuer: Issuer) -> None:
    async with router(issuer.url) as r:
        token = issuer.sign(groups=["payers"])

        async def plan_of(token: str) -> Any:
            assert (await ask(r, token))[0] == 200
            return (await newest(r, "acme"))["plan"]

        assert await plan_of(token) == "default"
        r.head = r.head.replace(
            'plan_claim = "plan"', 'plan_claim = "groups"\nplan_map = [{value = "payers", plan = "few"}]'
        )
        r.write_config()
        reloaded = await asyncio.to_thread(r.ask_admin, "/admin/v1/config/reload", {})
        assert any("jwt.plan_map" in line for line in reloaded["changes"])
        assert await plan_of(token) == "few"
