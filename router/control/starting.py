"""The calls that start and end backends: engines that sleep, a webhook, or the scale subresource of Kubernetes."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from router.config import WakeSection, secret
from router.observe.client import AskFailedError
from router.observe.observer import Observer

#: Where a pod finds what it needs to ask its own cluster.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CALL_S = 30.0
_SAYS_S = 2.0
#: An engine answers when it has loaded its weights back.
_WAKE_UP_S = 300.0
_BYTES_MAX = 64 * 1024
#: Statuses of an engine that has no such path, or was not started with it.
_NOT_THERE = (404, 405, 501)
_WAKE_UP, _SLEEP, _SLEEPS = "/wake_up", "/sleep?level=1", "/is_sleeping"


class StartingError(Exception):
    """A call failed. The text is for operators, ``told`` for clients: without addresses and words of others."""

    def __init__(self, text: str, *, told: str = "") -> None:
        super().__init__(text)
        self.told = told or text


class Starting:
    """``async with`` it."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Accept": "application/json", "User-Agent": "meridian-router"},
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=_CALL_S),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def engine(self, backend: str, *, awake: bool) -> bool:
        """Ask an engine to wake up or to sleep. False: it cannot. Raises StartingError."""
        path, timeout_s = (_WAKE_UP, _WAKE_UP_S) if awake else (_SLEEP, _CALL_S)
        try:
            answer = await self._observer.send(
                backend, path, b"", timeout_s=timeout_s, bytes_max=_BYTES_MAX, feed=lambda _: None
            )
        except AskFailedError as error:
            told = "its engine cannot be asked to wake up" if awake else ""
            raise StartingError(f"{backend}{path}: {error}", told=told) from None
        if answer.status in _NOT_THERE:
            return False
        if answer.status >= 300:
            raise StartingError(f"{backend}{path}: status {answer.status}", told=f"its engine answered {answer.status}")
        return True

    async def sleeps(self, backend: str) -> bool | None:
        """Whether its engine sleeps, by its own word; one that has no such path never does. None: it does not say."""
        try:
            answer = await self._observer.send(backend, _SLEEPS, None, timeout_s=_SAYS_S, bytes_max=_BYTES_MAX)
            if answer.status in _NOT_THERE:
                return False
            told = orjson.loads(answer.body) if answer.status == 200 else {}
        except (AskFailedError, ValueError):
            return None
        sleeps = told.get("is_sleeping") if isinstance(told, dict) else None
        return sleeps if isinstance(sleeps, bool) else None

    async def backends(self, wake: WakeSection, model: str, region: str | None, number: int) -> bool:
        """Have ``number`` backends run, 0 for none, by the webhook or the scale subresource. False: there is neither.
        Raises StartingError."""
        if wake.url is not None:
            action = "wake" if number else "sleep"
            await self._hook(wake, {"action": action, "model": model, "region": region, "backends": number})
        elif wake.scale is not None:
            await self._scale(wake, wake.scale, number)
        return wake.url is not None or wake.scale is not None

    async def _hook(self, wake: WakeSection, document: dict[str, Any]) -> None:
        token = secret(wake.token_env) if wake.token_env is not None else None
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        await self._call("POST", wake.url or "", headers, document, "the webhook")

    async def _scale(self, wake: WakeSection, place: str, number: int) -> None:
        """Set the replicas, but never to fewer while backends are to start: another one may have asked for more."""
        namespace, kind, name = place.split("/")
        own = wake.api is None
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if own and host is None:
            raise StartingError("this router does not run in a cluster: name its API with api")
        base = (wake.api or f"https://{f'[{host}]' if ':' in str(host) else host}:{port}").rstrip("/")
        url = f"{base}/apis/apps/v1/namespaces/{namespace}/{kind}/{name}/scale"
        headers: dict[str, str] = {}
        tls: ssl.SSLContext | bool = True
        if own:
            headers["Authorization"] = f"Bearer {_read(ACCOUNT / 'token')}"
            tls = _authorities(ACCOUNT / "ca.crt")
        if number:
            found = await self._call("GET", url, headers, None, f"the scale of {place}", tls)
            if int((found.get("spec") or {}).get("replicas") or 0) >= number:
                return
        headers["Content-Type"] = "application/merge-patch+json"
        await self._call("PATCH", url, headers, {"spec": {"replicas": number}}, f"the scale of {place}", tls)

    async def _call(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        document: dict[str, Any] | None,
        what: str,
        tls: ssl.SSLContext | bool = True,
    ) -> dict[str, Any]:
        assert self._session is not None, "async with comes first"
        asked = self._session.request(method, url, headers=headers, json=document, allow_redirects=False, ssl=tls)
        try:
            async with asked as response:
                body = b""
                while len(body) < _BYTES_MAX and (piece := await response.content.read(_BYTES_MAX)):
                    body += piece
                if response.status >= 300:
                    told = f"{what} answered {response.status}"
                    raise StartingError(f"{told}: {body[:200].decode(errors='replace')}", told=told)
                found = orjson.loads(body) if response.content_type == "application/json" and body else {}
                return found if isinstance(found, dict) else {}
        except TimeoutError:
            raise StartingError(f"{what} did not answer within {_CALL_S:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise StartingError(f"{what} cannot be called: {type(error).__name__}") from None


def _authorities(path: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(path))
    except OSError as error:
        raise StartingError(f"{path}: {error.strerror or error}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise StartingError(f"{path}: {error.strerror}") from None
