"""The calls that start and end backends, against real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from router.config import WakeSection
from router.control import starting
from router.control.starting import Starting, StartingError
from router.observe.client import AskFailedError, Failure, ProbeAnswer
from router.observe.observer import Observer

SCALE = "/apis/apps/v1/namespaces/prod/deployments/vllm/scale"


class Cluster:
    """A webhook and the scale subresource of one Deployment."""

    def __init__(self) -> None:
        self.replicas = 0
        self.asked: list[tuple[str, Any]] = []
        self.headers: list[str | None] = []
        self.status = 200
        self.url = ""

    async def get(self, request: web.Request) -> web.Response:
        self.asked.append(("GET", None))
        return self._scale(request)

    async def patch(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/merge-patch+json"
        body = await request.json()
        self.asked.append(("PATCH", body))
        if self.status == 200:
            self.replicas = body["spec"]["replicas"]
        return self._scale(request)

    async def hook(self, request: web.Request) -> web.Response:
        self.asked.append(("POST", await request.json()))
        return self._scale(request)

    def _scale(self, request: web.Request) -> web.Response:
        self.headers.append(request.headers.get("Authorization"))
        document = {"kind": "Scale", "spec": {"replicas": self.replicas}}
        return web.json_response(document if self.status == 200 else {"message": "no"}, status=self.status)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    made = Cluster()
    app = web.Application()
    app.router.add_get(SCALE, made.get)
    app.router.add_patch(SCALE, made.patch)
    app.router.add_post("/hook", made.hook)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


class Engines(Observer):
    """Says what a POST is answered with."""

    def __init__(self, status: int | None, body: bytes = b"") -> None:
        self.status = status
        self.body = body
        self.paths: list[str] = []

    async def send(self, backend: str, path: str, body: bytes | None, **options: Any) -> ProbeAnswer:
        self.paths.append(path)
        if self.status is None:
            raise AskFailedError(Failure.REFUSED, "nobody listens")
        return ProbeAnswer(self.status, self.body, 0.0, True)


async def test_the_scale_is_raised_and_never_lowered_by_a_wake(cluster: Cluster) -> None:
    wake = WakeSection(scale="prod/deployments/vllm", api=cluster.url)
    async with Starting(Engines(200)) as calls:
        assert await calls.backends(wake, "m", "us", 2)
        assert cluster.replicas == 2
        cluster.replicas = 5
        assert await calls.backends(wake, "m", "us", 2)
        assert cluster.replicas == 5
        assert await calls.backends(wake, "m", "us", 0)
        assert cluster.replicas == 0
    assert [method for method, _ in cluster.asked] == ["GET", "PATCH", "GET", "PATCH"]


async def test_the_webhook_is_told_what_to_do(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "secret")
    wake = WakeSection(url=cluster.url + "/hook", token_env="HOOK")
    async with Starting(Engines(200)) as calls:
        assert await calls.backends(wake, "m", "us", 1)
        assert await calls.backends(wake, "m", "us", 0)
    assert [body for _, body in cluster.asked] == [
        {"action": "wake", "model": "m", "region": "us", "backends": 1},
        {"action": "sleep", "model": "m", "region": "us", "backends": 0},
    ]
    assert set(cluster.headers) == {"Bearer secret"}


async def test_neither_is_configured() -> None:
    async with Starting(Engines(200)) as calls:
        assert not await calls.backends(WakeSection(), "m", "us", 1)


async def test_what_goes_wrong_is_said(cluster: Cluster) -> None:
    async with Starting(Engines(200)) as calls:
        cluster.status = 403
        with pytest.raises(StartingError, match="the scale of prod/deployments/vllm answered 403"):
            await calls.backends(WakeSection(scale="prod/deployments/vllm", api=cluster.url), "m", None, 1)
        with pytest.raises(StartingError, match="the webhook cannot be called"):
            await calls.backends(WakeSection(url="http://127.0.0.1:9/"), "m", None, 1)
        with pytest.raises(StartingError, match="does not run in a cluster"):
            await calls.backends(WakeSection(scale="prod/deployments/vllm"), "m", None, 1)


async def test_in_a_pod_the_account_of_the_service_is_used(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setattr(starting, "ACCOUNT", tmp_path)
    async with Starting(Engines(200)) as calls:
        with pytest.raises(StartingError, match="token"):
            await calls.backends(WakeSection(scale="prod/deployments/vllm"), "m", None, 1)
        (tmp_path / "token").write_text("x")
        with pytest.raises(StartingError, match="No such file"):
            await calls.backends(WakeSection(scale="prod/deployments/vllm"), "m", None, 1)


@pytest.mark.parametrize(
    ("status", "body", "sleeps"),
    [
        (200, b'{"is_sleeping":true}', True),
        (200, b'{"is_sleeping":false}', False),
        (404, b"", False),
        (200, b"[]", None),
        (200, b"<html>", None),
        (200, b'{"is_sleeping":"yes"}', None),
        (500, b'{"is_sleeping":false}', None),
        (None, b"", None),
    ],
)
async def test_engines_say_whether_they_sleep(status: int | None, body: bytes, sleeps: bool | None) -> None:
    assert await Starting(Engines(status, body)).sleeps("us/a") is sleeps


@pytest.mark.parametrize(("status", "can"), [(200, True), (404, False), (405, False), (501, False)])
async def test_engines_that_can_sleep_and_those_that_cannot(status: int, can: bool) -> None:
    engines = Engines(status)
    calls = Starting(engines)
    assert await calls.engine("us/a", awake=False) is can
    assert await calls.engine("us/a", awake=True) is can
    assert engines.paths == ["/sleep?level=1", "/wake_up"]


@pytest.mark.parametrize("status", [500, None])
async def test_engines_that_fail(status: int | None) -> None:
    with pytest.raises(StartingError, match="us/a/wake_up"):
        await Starting(Engines(status)).engine("us/a", awake=True)
