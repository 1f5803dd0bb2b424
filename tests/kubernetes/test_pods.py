"""The chart's pods run as it says: probes, the ConfigMap's swap, preStop, SIGTERM and the time there is for it."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from urllib.parse import unquote, urlsplit

import aiohttp
import orjson
import pytest

from router.control import keda_messages as messages
from tests.support.backends import Call, ScriptedBackend
from tests.support.certificates import certificate
from tests.support.dockerfile import image
from tests.support.helm import NEEDS_HELM, objects, pick
from tests.support.pod import Contents, Pod, isolation
from tests.support.ports import free_port
from tests.support.rollout import Deployment, Service
from tests.support.takeover import Load
from tests.support.tls_front import tls_front
from tests.support.valkey import Valkey

pytestmark = NEEDS_HELM

SECRETS = {"meridian": {"ROUTER_ADMIN_TOKEN": "a-token-of-the-tests"}}


def values(url: str, **config: Any) -> dict[str, Any]:
    """Values for pods that are quick to start and to leave."""
    backend = {"name": "a", "url": url, "engine": "vllm", "models": ["m"], "continues": "no"}
    return {
        "config": {
            "auth": {"mode": "open", "allow_open": True},
            "store": {"redis": None},
            "timeouts": {"lead": 1, "drain": 20},
            "regions": [{"name": "near", "backends": [backend]}],
            **config,
        },
        "ports": {"clients": free_port(), "admin": free_port()},
        "preStopSeconds": 1,
        "probes": {
            "readiness": {"periodSeconds": 1},
            "liveness": {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 2},
        },
    }


def config_maps(found: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    return {o["metadata"]["name"]: dict(o["data"]) for o in found if o["kind"] == "ConfigMap"}


def pod(template: dict[str, Any], folder: Path, maps: Contents, *, name: str = "meridian-0") -> Pod:
    return Pod(template, name=name, folder=folder, config_maps=maps, secrets=SECRETS, image=image())


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: those of sockets have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="pods-") as made:
        yield Path(made)


@pytest.fixture
async def backend() -> AsyncIterator[ScriptedBackend]:
    async with ScriptedBackend() as b:
        yield b


def _template(found: list[dict[str, Any]]) -> dict[str, Any]:
    template: dict[str, Any] = pick(found, "Deployment")["spec"]["template"]
    return template


async def test_a_rolling_restart_under_load_fails_nobody(backend: ScriptedBackend, folder: Path) -> None:
    given = values(backend.url) | {"replicas": 2}
    found = objects(values=given)
    spec = pick(found, "Deployment")["spec"]

    def make(template: dict[str, Any], number: int) -> Pod:
        return pod(template, folder, config_maps(found), name=f"meridian-{number}")

    async with Service(lag_s=0.5) as service, Deployment(spec, service, make) as deployment:
        await asyncio.sleep(0.6)
        async with Load(service.address, kept=4, fresh=3, streams=3) as load:
            await asyncio.sleep(0.5)
            await deployment.roll(spec["template"])
            await asyncio.sleep(0.5)
        assert (load.failed, service.trouble) == ([], [])
        assert load.answered > 50
        assert load.streamed > 5
        assert [p.restarts for p in [*deployment.gone, *service.pods]] == [0] * 4
        assert [p.process.returncode for p in deployment.gone] == [0, 0]
        assert not any(p.killed for p in deployment.gone)


async def test_a_change_of_the_configmap_is_taken_over_without_a_restart(
    backend: ScriptedBackend, folder: Path
) -> None:
    given = values(backend.url)
    found = objects(values=given)
    maps = config_maps(found)
    async with pod(_template(found), folder, maps) as p:
        await p.until("ready")
        given["config"]["plans"] = {"default": {"requests_per_minute": 7}}
        later = objects(values=given)
        assert _template(later) == _template(found), "the Deployment stays as it is: no pod is replaced"
        maps |= config_maps(later)
        p.update("meridian")
        async with asyncio.timeout(30):
            while b"generation 2 in force" not in p.log.read_bytes():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert p.ready
        assert p.restarts == 0


async def test_ready_means_that_a_backend_can_be_used_and_live_that_the_router_answers(
    backend: ScriptedBackend, folder: Path
) -> None:
    found = objects(values=values("http://127.0.0.1:1"))
    async with pod(_template(found), folder, config_maps(found)) as p:
        await p.until("started")
        await asyncio.sleep(2.5)
        assert (p.started, p.ready, p.restarts) == (True, False, 0), "nobody to serve it: no traffic, and no restart"
        assert await p.get("/healthz", port="clients") == 200
        maps = objects(values=values(backend.url) | {"ports": _ports(p)})
        p._config_maps = config_maps(maps)
        p.update("meridian")
        await p.until("ready")
        os.kill(p.process.pid, signal.SIGSTOP)
        await p.until("restarts", 1)
        await p.until("ready")


def _ports(p: Pod) -> dict[str, int]:
    return {name: p.port(name) for name in ("clients", "admin")}


async def test_a_router_with_a_file_that_is_wrong_never_starts(folder: Path) -> None:
    found = objects(values=values("http://127.0.0.1:1"))
    maps = config_maps(found)
    maps["meridian"]["regions.toml"] += "\n[nonsense]\n"
    async with pod(_template(found), folder, maps) as p:
        assert await asyncio.to_thread(p.process.wait, 30) != 0
        assert "nonsense" in p.log.read_text()
        assert not p.started


async def test_a_stream_that_outlasts_the_drain_ends_before_the_kubelet_would_kill(folder: Path) -> None:
    async def endless(call: Call) -> None:
        await call.stream("one", finish=False)
        await call.until_gone()

    async with ScriptedBackend(endless) as b:
        found = objects(values=values(b.url, timeouts={"lead": 0, "drain": 0.5}))
        template = _template(found)
        async with pod(template, folder, config_maps(found)) as p:
            await p.until("ready")
            reader, writer = await asyncio.open_connection(p.address, p.port("clients"))
            body = orjson.dumps({"model": "m", "stream": True, "messages": []})
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            await reader.readuntil(b"one")
            await p.delete()
            rest = await asyncio.wait_for(reader.read(-1), 30)
            writer.close()
    assert b'"code":"shutting_down"' in rest
    assert not p.killed
    assert p.process.returncode == 0


async def test_the_number_that_keda_asks_for_is_where_the_scaled_object_says(
    backend: ScriptedBackend, folder: Path
) -> None:
    goals = {name: {"target_ttft_s": 2, "min": least, "max": 5} for name, least in (("m", 3), ("org/other", 1))}
    given = values(backend.url, router={"region": "near"}, models=goals)
    given["config"]["regions"][0]["backends"][0]["models"] = list(goals)
    engines = [{"name": f"vllm-{n}", "model": m, "min": 1, "max": 5} for n, m in enumerate(goals)]
    found = objects(values=given | {"engines": engines})
    (secret,) = pick(found, "TriggerAuthentication")["spec"]["secretTargetRef"]
    token = SECRETS[secret["name"]][secret["key"]]
    service = pick(found, "Service", "meridian-admin")
    host = f"meridian-admin.llm.svc:{service['spec']['ports'][0]['port']}"
    numbers = []
    async with pod(_template(found), folder, config_maps(found)) as p:
        await p.until("ready")
        for engine in engines:
            trigger = pick(found, "ScaledObject", engine["name"])["spec"]["triggers"][0]["metadata"]
            assert trigger["url"].startswith(f"http://{host}/")
            asked = keda_asks(trigger["url"], p.address, p.port("admin"))
            async with aiohttp.ClientSession(headers={"authorization": f"{trigger['authMode']} {token}"}) as http:
                answer = await http.get(asked)
                numbers.append(orjson.loads(await answer.read())[trigger["valueLocation"]])
    assert numbers == [3, 1]


async def test_the_api_server_is_answered_and_nobody_else(backend: ScriptedBackend, folder: Path) -> None:
    own, layer, issuer = (certificate(folder, name) for name in ("own", "front-proxy", "issuer"))
    given = values(backend.url, router={"region": "near"}, models={"m": {"target_ttft_s": 2, "min": 3, "max": 5}})
    external = {"enabled": True, "secret": "metrics-tls", "caBundle": "QQ==", "port": free_port()}
    found = objects(values=given | {"externalMetrics": external | {"clientCa": layer.cert.read_text()}})
    held = {"tls.crt": own.cert.read_text(), "tls.key": own.key.read_text(), "ca.crt": issuer.cert.read_text()}
    service = pick(found, "Service", pick(found, "APIService")["spec"]["service"]["name"])["spec"]["ports"][0]
    made = Pod(
        _template(found),
        name="meridian-0",
        folder=folder,
        config_maps=config_maps(found),
        secrets=SECRETS | {"metrics-tls": held},
        image=image(),
    )
    base = "/apis/external.metrics.k8s.io/v1beta1"
    # Of the API server's own questions, before it falls back to the documents of before.
    discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;q=0.9"
    who = {"x-remote-user": "system:kube-aggregator", "x-remote-group": "system:masters", "accept": discovery}
    async with made as p:
        await p.until("ready")
        tls = ssl.create_default_context(cafile=str(own.cert))
        tls.check_hostname = False
        at = f"https://{p.address}:{p.port(service['targetPort'])}"
        async with aiohttp.ClientSession() as http:
            with pytest.raises((aiohttp.ClientError, OSError)):
                await http.get(at + base, ssl=tls)
        tls.load_cert_chain(layer.cert, layer.key)
        async with aiohttp.ClientSession(headers=who) as http:

            async def ask(path: str) -> tuple[int, Any]:
                async with http.get(at + path, ssl=tls) as answer:
                    assert answer.content_type == "application/json"
                    return answer.status, orjson.loads(await answer.read())

            for path, kind in (("/apis", "APIGroupList"), (base, "APIResourceList")):
                status, document = await ask(path)
                assert (status, document["kind"]) == (200, kind)
            assert [await ask(path) for path in ("/openapi/v2", "/openapi/v3")] == [(404, ANY)] * 2
            _, number = await ask(f"{base}/namespaces/llm/router_backends_needed?labelSelector=model%3Dm")
    assert [item["value"] for item in number["items"]] == ["3"]


@pytest.mark.parametrize("workers", [1, 2])
async def test_keda_is_answered_where_the_scaled_object_says(
    backend: ScriptedBackend, folder: Path, workers: int
) -> None:
    grpc = pytest.importorskip("grpc")
    goal = {"m": {"target_ttft_s": 2, "min": 3, "max": 5}}
    store = {"redis": None if workers == 1 else "embedded"}
    given = values(backend.url, router={"region": "near", "workers": workers}, models=goal, store=store) | {
        "keda": {"enabled": True, "port": free_port()},
        "replicas": 1,
    }
    found = objects(values=given | {"engines": [{"name": "vllm-m", "model": "m", "min": 3, "max": 5}]})
    metadata = pick(found, "ScaledObject")["spec"]["triggers"][0]["metadata"]
    host, _, port = metadata["scalerAddress"].partition(":")
    service = pick(found, "Service", host.partition(".")[0])["spec"]["ports"][0]
    assert str(service["port"]) == port
    asks = messages.ScaledObject("vllm-m", "llm", metadata)
    async with pod(_template(found), folder, config_maps(found)) as p:
        await p.until("ready")
        async with grpc.aio.insecure_channel(f"{p.address}:{p.port(service['targetPort'])}") as channel:

            async def ask(method: str, data: bytes) -> Any:
                return await channel.unary_unary(f"/externalscaler.ExternalScaler/{method}")(data)

            assert await ask("IsActive", messages.scaled_object(asks)) == messages.is_active(True)
            name = "router_backends_needed"
            assert await ask("GetMetricSpec", messages.scaled_object(asks)) == messages.metric_spec(name, 1.0)
            assert await ask("GetMetrics", messages.metrics_request(asks, name)) == messages.metric_value(name, 3)
        assert await p.delete() > 0
        assert p.process.returncode == 0, p.log.read_text()


def keda_asks(url: str, address: str, port: int) -> str:
    """The address of one router, as KEDA 2.20 makes it of that of the Service: without the query, with the path decoded
    (getEndpointsUrlsFromServiceURL of its pkg/scalers/metrics_api_scaler.go)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{address}:{port}{unquote(parts.path)}"


async def test_routers_share_a_store_with_tls_and_a_password_from_secrets(
    backend: ScriptedBackend, folder: Path
) -> None:
    """As docs/kubernetes.md writes it."""
    authority = certificate(folder, "store")
    user = ("--user", "router", "on", ">secret", "~*", "&*", "+@all")
    with Valkey(unix=False, args=user) as valkey, tls_front(valkey.port, authority) as port:
        url = f"rediss://router:$(REDIS_PASSWORD)@127.0.0.1:{port}/0?ssl_ca_certs=/etc/redis-ca/ca.crt"
        given = values(backend.url, auth={"mode": "keys"}, store={"snapshot": "/var/lib/router/keys"}) | {
            "replicas": 2,
            "env": [
                {"name": "REDIS_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}},
                {"name": "MERIDIAN_REDIS", "value": url},
            ],
            "mounts": [{"name": "redis-ca", "secret": "redis-ca", "path": "/etc/redis-ca"}],
        }
        found = objects(values=given)
        secrets = SECRETS | {"redis": {"password": "secret"}, "redis-ca": {"ca.crt": authority.cert.read_text()}}
        token = {"authorization": f"Bearer {SECRETS['meridian']['ROUTER_ADMIN_TOKEN']}"}
        async with AsyncExitStack() as stack:
            pods = []
            for number in range(2):
                made = Pod(
                    _template(found),
                    name=f"meridian-{number}",
                    folder=folder,
                    config_maps=config_maps(found),
                    secrets=secrets,
                    image=image(),
                )
                pods.append(await stack.enter_async_context(made))
            for p in pods:
                await p.until("ready")
            http = await stack.enter_async_context(aiohttp.ClientSession())
            keys = f"http://{pods[0].address}:{pods[0].port('admin')}/admin/v1/keys"
            made_key = await (await http.post(keys, json={"name": "alice"}, headers=token)).json()
            asked = {"authorization": f"Bearer {made_key['key']}"}
            at = f"http://{pods[1].address}:{pods[1].port('clients')}/v1/models"
            assert (await http.get(at, headers=asked)).status == 200


async def test_workers_a_store_and_files_need_nothing_but_the_volumes(backend: ScriptedBackend, folder: Path) -> None:
    if not isolation() and "CI" not in os.environ:
        pytest.skip("this system does not let a process have mounts of its own")
    given = values(
        backend.url,
        router={"workers": 2},
        store={"redis": "embedded", "snapshot": "/var/lib/router/keys"},
        journal={"path": "/var/lib/router/journal.jsonl"},
    )
    found = objects(values=given | {"replicas": 1})
    async with pod(_template(found), folder, config_maps(found)) as p:
        await p.until("ready")
        async with Load(f"{p.address}:{p.port('clients')}", kept=1, fresh=1, streams=1) as load:
            await asyncio.sleep(0.5)
        assert load.failed == []
        assert await p.delete() > 0
        assert p.process.returncode == 0, p.log.read_text()
    assert list((folder / "meridian-0" / "data").glob("journal.jsonl*"))
    said = [line for line in p.log.read_text().splitlines() if '"level":"error"' in line or "Read-only" in line]
    assert said == []
