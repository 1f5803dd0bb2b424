"""The admin API as an operator meets it: every route, its shapes and its refusals."""

from __future__ import annotations

import io
from typing import Any

import orjson
import pytest

from router.control.routes import ROUTES
from tests.support.control import Admin


@pytest.mark.parametrize("path", ["keys/nope", "quotas?key=nope", "requests/nope"])
async def test_what_is_not_there_is_404(admin: Admin, path: str) -> None:
    assert (await admin.get(f"/admin/v1/{path}", 404))["error"]["code"] == "not_found"


async def test_the_openapi_document_describes_every_route(admin: Admin) -> None:
    document = await admin.get("/admin/v1/openapi.json")
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    served = {
        (route.method, route.resource.canonical)
        for route in _app_routes(admin)
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == described
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    assert document["paths"]["/healthz"]["get"].get("security") is None


def _app_routes(admin: Admin) -> Any:
    from router.control.admin import make_app

    return make_app(admin.control, None).router.routes()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/admin/v1/nope", 404, "not_found"),
        ("POST", "/admin/v1/status", 405, "method_not_allowed"),
        ("DELETE", "/admin/v1/regions", 405, "method_not_allowed"),
    ],
)
async def test_other_paths_and_methods(admin: Admin, method: str, path: str, status: int, code: str) -> None:
    assert (await admin.ask(method, path, status))["error"]["code"] == code


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"name":"x"}', "text/plain", 400),
        (b'{"name":"x"}', "application/x-www-form-urlencoded", 400),
        (b" " * (1024 * 1024 + 1), "application/json", 413),
        (b"[" * 100_000, "application/json", 400),
    ],
)
async def test_bodies_that_are_refused(admin: Admin, data: bytes, content_type: str, status: int) -> None:
    headers = {"Content-Type": content_type}
    refused = await admin.ask("POST", "/admin/v1/keys", status, data=io.BytesIO(data), headers=headers)
    assert set(refused["error"]) == {"message", "type", "param", "code"}


async def test_a_fault_of_ours_shows_nothing_of_the_inside(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(document: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("secret inside")

    admin.control.explain = broken
    refused = await admin.post("/admin/v1/explain", {"model": "m"}, 500)
    assert refused["error"]["code"] == "internal"
    assert "secret" not in orjson.dumps(refused).decode()
    assert "ZeroDivisionError" in caplog.text
