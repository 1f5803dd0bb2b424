"""Who may use the admin API, and by which tricks nobody may."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest

from router.control.external_metrics import METRICS
from router.control.routes import ROUTES
from router.telemetry.journal import Record
from tests.support.control import Admin, administering
from tests.support.raw import statuses, talk

TOKEN = "an-admin-token-of-some-length"
PATHS = ("/metrics", "/admin/v1/status", "/admin/v1/keys", "/admin/v1/openapi.json", "/admin/v1/nope", "/nope")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Admin]:
    path = tmp_path / "regions.toml"
    path.write_text("[[regions]]\nname = 'r'\nbackends = []\n")
    async with administering(path, TOKEN) as made:
        yield made


@pytest.fixture
async def loopback(tmp_path: Path) -> AsyncIterator[Admin]:
    path = tmp_path / "regions.toml"
    path.write_text("[[regions]]\nname = 'r'\nbackends = []\n")
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


def _filled(path: str, key_id: str) -> str:
    """The path of a route with names in its places."""
    names = {"request_id": "id", "key_id": key_id, "region": "r", "backend": "a", "model": "m"}
    names |= {"namespace": "default", "metric": next(iter(METRICS))}
    for place, name in names.items():
        path = path.replace(f"{{{place}}}", name)
    return path


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
        "[models.m]\ntarget_ttft_s = 1\n"
    )
    async with administering(path, TOKEN) as admin:
        made = await admin.post("/admin/v1/keys", {"name": "x"}, 201, headers=bearer(TOKEN))
        await admin.post("/admin/v1/backends/r/a/probe", headers=bearer(TOKEN))
        admin.control.telemetry.request_done(Record("id", 0.0, key_id=made["id"], model="m"))
        texts = [caplog.text]
        for route in ROUTES:
            if route.method == "GET" and route.content_type != "text/event-stream":
                url = admin.url + _filled(route.path, made["id"])
                async with admin.session.get(url, headers=bearer(TOKEN)) as response:
                    assert response.status == 200, route.path
                    texts.append(await response.text())
        path.write_text(path.read_text() + f"[plans]\nx = '{TOKEN}'\n")
        await admin.post("/admin/v1/config/reload", status=422, headers=bearer(TOKEN))
        texts.append(caplog.text)
    for secret in (TOKEN, "canary-backend-key", made["key"]):
        assert not [text for text in texts if secret in text]


#: What browsers send with the requests of a page on another site, and what such a page can make them send.
FOREIGN: list[dict[str, str]] = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:8080"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site "},
    {"Sec-Fetch-Site": "whatever comes next"},
    {"Sec-Fetch-Site": ""},
    {"Referer": "http://evil.example/page"},
    {"Referer": "http://evil.example"},
    {"Referer": "http://127.0.0.1/"},
    {"Referer": "http://127.0.0.1:8080/another-port"},
    {"Referer": "http://{host}@evil.example/"},
    {"Referer": "http://evil.example/{host}"},
    {"Referer": "ftp://{host}/"},
    {"Referer": "http://[/"},
    {"Referer": ""},
]
#: A form's content types; none; and what only looks like JSON.
FORMS = [
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "text/plain",
    "text/plain; application/json",
    "application/jsonx",
    "",
]
UNSAFE = [route for route in ROUTES if route.method != "GET"]


def filled(path: str) -> str:
    return path.replace("{", "").replace("}", "")


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_web_page_is_not_answered(loopback: Admin, guarded: Admin, headers: dict[str, str]) -> None:
    for admin, token in ((loopback, {}), (guarded, bearer(TOKEN))):
        sent = {n: v.replace("{host}", urlsplit(admin.url).netloc) for n, v in headers.items()} | token
        sent |= {"X-Router-Admin": "1", "Content-Type": "application/json"}
        for method, path in [("GET", "/admin/v1/status"), *((r.method, filled(r.path)) for r in UNSAFE)]:
            body = await admin.ask(method, path, 403, headers=sent)
            assert body["error"]["code"] == "forbidden"


@pytest.mark.parametrize(
    "headers", [{}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}, {"Referer": "own"}]
)
async def test_programs_and_the_address_bar_are_answered(loopback: Admin, headers: dict[str, str]) -> None:
    sent = {name: value.replace("own", loopback.url + "/metrics") for name, value in headers.items()}
    await loopback.get("/admin/v1/status", headers=sent)
    await loopback.post("/admin/v1/regions/r/drain", headers=sent)


@pytest.mark.parametrize("content_type", FORMS)
async def test_what_changes_something_needs_a_header_that_no_form_can_send(loopback: Admin, content_type: str) -> None:
    """Old browsers send neither Origin nor Sec-Fetch-Site nor, if a page asks for it, Referer."""
    async with aiohttp.ClientSession() as browser:
        for route in UNSAFE:
            url, headers = loopback.url + filled(route.path), {"Content-Type": content_type}
            async with browser.request(route.method, url, data=b"{}", headers=headers) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (403, "forbidden"), route.path
        async with browser.post(loopback.url + "/admin/v1/regions/r/drain", json={}) as response:
            assert response.status == 200
    await loopback.post("/admin/v1/regions/r/resume")


async def test_the_token_is_such_a_header(guarded: Admin) -> None:
    await guarded.post("/admin/v1/regions/r/drain", headers=bearer(TOKEN))
    await guarded.post("/admin/v1/regions/r/resume", {}, 401)


async def test_a_foreign_name_for_loopback_is_not_answered(loopback: Admin) -> None:
    names = (
        "evil.example",
        "evil.example:9090",
        "127.0.0.1.evil.example",
        "",
        "[::1]evil.example",
        "[::1].evil.example:1",
    )
    for host in (*names, "localhost.evil.example", "evil@127.0.0.1", "127.0.0.1:evil", "127.0.0.1:80:80"):
        await loopback.get("/admin/v1/status", 403, headers={"Host": host})
        await loopback.post("/admin/v1/regions/r/drain", {}, 403, headers={"Host": host})
    for host in ("localhost:9090", "127.0.0.1", "[::1]:9090", "[::1]", "10.0.0.1:9090", "LOCALHOST"):
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
