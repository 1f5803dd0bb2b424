"""A Deployment that is rolled out, and the Service in front of it, with the pods of tests/support/pod.py."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

from tests.support.pod import Pod


class Service:
    """Gives each new connection to a ready pod, as kube-proxy does: connections that are made stay where they are.
    A node hears ``lag_s`` late that a pod has become ready or is being deleted."""

    def __init__(self, *, lag_s: float) -> None:
        self.pods: list[Pod] = []
        self._lag_s = lag_s
        self.trouble: list[str] = []
        self._known: list[Pod] = []
        self._turn = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._watch = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watch.cancel()
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._watch, *self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            endpoints = [pod for pod in self.pods if pod.ready]
            loop.call_later(self._lag_s, self._hear, endpoints)
            await asyncio.sleep(0.02)

    def _hear(self, endpoints: list[Pod]) -> None:
        self._known = endpoints

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if not self._known:
                self.trouble.append("no pod is ready")
                return
            pod = self._known[next(self._turn) % len(self._known)]
            try:
                there = await asyncio.open_connection(pod.address, pod.port("clients"))
            except OSError as error:
                self.trouble.append(f"{pod.name}: {error!r}")
                return
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
        finally:
            writer.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        return
    finally:
        sink.close()


class Deployment:
    """``replicas`` pods of the newest template. ``make`` is given the number of a pod and makes it."""

    def __init__(self, spec: dict[str, Any], service: Service, make: Callable[[dict[str, Any], int], Pod]) -> None:
        self._spec, self._service, self._make = spec, service, make
        self._numbers = itertools.count()
        self._stack = AsyncExitStack()
        self.took_s: list[float] = []
        self.gone: list[Pod] = []

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(self._add(self._spec["template"]) for _ in range(self._spec["replicas"])))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _add(self, template: dict[str, Any]) -> None:
        pod = await self._stack.enter_async_context(self._make(template, next(self._numbers)))
        self._service.pods.append(pod)
        await pod.until("ready")

    async def _remove(self, pod: Pod) -> None:
        self.took_s.append(await pod.delete())
        self._service.pods.remove(pod)
        self.gone.append(pod)

    async def roll(self, template: dict[str, Any]) -> None:
        """One new pod more than the replicas, and never one ready pod fewer."""
        rolling = self._spec["strategy"]["rollingUpdate"]
        assert (rolling["maxSurge"], rolling["maxUnavailable"]) == (1, 0)
        leaving = []
        for old in list(self._service.pods):
            await self._add(template)
            leaving.append(asyncio.create_task(self._remove(old)))
        await asyncio.gather(*leaving)
