"""Who may use the admin API, and by which tricks nobody may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from router.control.routes import ROUTES
from router.telemetry.journal import Record
from tests.support.control import Admin, administering
from tests.support.raw import statuses, talk

TOKEN = "an-admin-token-of-some-length"
PATHS = ("/metrics", "/admin/v1/status", "/admin/v1/keys", "/admin/v1/openapi.json", "/admin/v1/nope", "/")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Admin]:
    path = tmp_path / "regions.toml"
    path.write_text("[[regions]]\nname = 'r'\n")
    async with administering(path, TOKEN) as made:
        yield made


@pytest.fixture
async def loopback(tmp_path: Path) -> AsyncIterator[Admin]:
    path = tmp_path / "regions.toml"
    path.write_text("[[regions]]\nname = 'r'\n")
    async with administering(path) as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_with_the_token_everything_is_open(guarded: Admin) -> None:
    await guarded.get("/admin/v1/status", headers=bearer(TOKEN))
    await guarded.get("/metrics", headers=bearer(TOKEN))
    await guarded.get("/admin/v1/status", headers={"Authorization": f"bearer  {TOKEN}"})


@pytest.mark.parametrize("path", PATHS)
async def test_without_the_token_nothing_but_health_is(guarded: Admin, path: str) -> None:
    body = await guarded.get(path, 401)
    assert body["error"]["code"] == "unauthorized"
    await guarded.get("/healthz")
    await guarded.get("/readyz")


@pytest.mark.parametrize(
    "value",
    [
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        "Bearer é",
        "Bearer \xff",
    ],
)
async def test_wrong_tokens(guarded: Admin, value: str) -> None:
    body = await guarded.get("/admin/v1/status", 401, headers={"Authorization": value})
    assert TOKEN not in str(body)


async def test_guesses_are_slowed_down_and_forgiven(guarded: Admin) -> None:
    for n in range(10):
        await guarded.get("/admin/v1/status", 401, headers=bearer(f"guess-{n}"))
    body = await guarded.get("/admin/v1/status", 429, headers=bearer("guess-10"))
    assert body["error"]["code"] == "too_many_attempts"
    await guarded.get("/healthz")


async def test_asking_without_any_token_is_no_guess(guarded: Admin) -> None:
    for _ in range(30):
        await guarded.get("/admin/v1/status", 401)
    await guarded.get("/admin/v1/status", headers=bearer(TOKEN))


TRICKS = [
    b"GET //healthz/../admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz/../admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz/%2e%2e/admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz;/../admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /admin/v1/%73tatus HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /admin/v1/status?/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /admin/v1/status#/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://x/healthz/../admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://healthz/admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /admin/v1/status HTTP/1.1\r\nHost: /healthz\r\n\r\n",
    b"GET /admin/v1/status HTTP/1.1\r\nHost: x\r\nX-Original-URL: /healthz\r\nX-Rewrite-URL: /healthz\r\n\r\n",
    b"GET /admin/v1/status HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
    b"GET /admin/v1/status HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: OPTIONS\r\n\r\n",
    b"OPTIONS /admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT /admin/v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", TRICKS, ids=lambda r: r.split(b" HTTP")[0].decode())
async def test_no_spelling_gets_past_the_token(guarded: Admin, request_bytes: bytes) -> None:
    parts = urlsplit(guarded.url)
    answer = await talk((parts.hostname or "", parts.port or 0), request_bytes, timeout_s=0.2)
    assert statuses(answer), answer
    assert set(statuses(answer)) <= {400, 401, 404, 405}, answer
    assert b"config_generation" not in answer


async def test_no_answer_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)
    monkeypatch.setenv("BACKEND_KEY", "canary-backend-key")
    path = tmp_path / "regions.toml"
    path.write_text(
        "[auth]\nadmin_token_env = 'ADMIN_TOKEN'\n[[regions]]\nname = 'r'\n"
        "backends = [{name = 'a', url = 'http://127.0.0.1:1', key_env = 'BACKEND_KEY', models = ['m']}]\n"
    )
    async with administering(path, TOKEN) as admin:
        made = await admin.post("/admin/v1/keys", {"name": "x"}, 201, headers=bearer(TOKEN))
        await admin.post("/admin/v1/backends/r/a/probe", headers=bearer(TOKEN))
        admin.control.telemetry.request_done(Record("id", 0.0, key_id=made["id"], model="m"))
        texts = [caplog.text]
        for route in ROUTES:
            if route.method == "GET" and route.name != "tailRequests":
                url = admin.url + route.path.replace("{request_id}", "id").replace("{key_id}", made["id"])
                async with admin.session.get(url, headers=bearer(TOKEN)) as response:
                    assert response.status == 200, route.path
                    texts.append(await response.text())
        path.write_text(path.read_text() + f"[plans]\nx = '{TOKEN}'\n")
        await admin.post("/admin/v1/config/reload", status=422, headers=bearer(TOKEN))
        texts.append(caplog.text)
    for secret in (TOKEN, "canary-backend-key", made["key"]):
        assert not [text for text in texts if secret in text]


async def test_a_web_page_is_not_answered(loopback: Admin) -> None:
    for origin in ("http://evil.example", "null", loopback.url):
        headers = {"Origin": origin}
        body = await loopback.post("/admin/v1/regions/r/drain", status=403, headers=headers)
        assert body["error"]["code"] == "forbidden"
    await loopback.post("/admin/v1/regions/r/drain")


async def test_a_foreign_name_for_loopback_is_not_answered(loopback: Admin) -> None:
    for host in ("evil.example", "evil.example:9090", "127.0.0.1.evil.example", ""):
        await loopback.get("/admin/v1/status", 403, headers={"Host": host})
    for host in ("localhost:9090", "127.0.0.1", "[::1]:9090", "10.0.0.1:9090"):
        await loopback.get("/admin/v1/status", headers={"Host": host})


async def test_a_client_that_leaves_ends_its_handler(loopback: Admin) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(5):
        response = await loopback.session.get(f"{loopback.url}/admin/v1/requests/tail")
        response.close()
    for _ in range(50):
        await asyncio.sleep(0.02)
        if len(asyncio.all_tasks()) <= before + 1:
            return
    pytest.fail(f"{len(asyncio.all_tasks())} tasks, {before} before")
