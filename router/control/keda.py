"""KEDA's external scaler: the number of backends that are needed, over gRPC. Needs grpcio, the extra ``keda``.

The metadata of the trigger names a ``model`` and, unless all regions count together, a ``region``. The value is
``router_backends_needed`` with the target 1, so as many pods run as the number says. It is active as soon as any is
needed, which is how KEDA starts the first one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from router.control import keda_messages as messages
from router.control.keda_messages import ScaledObject
from router.control.needed_number import NoNumberError, UnheardError, needed_number
from router.protobuf import MessageError

SERVICE = "externalscaler.ExternalScaler"
METRIC = "router_backends_needed"
#: How often it looks whether a model has become active, for those who wait for it.
_LOOK_S = 1.0
_STOP_S = 1.0

Told = Callable[[], Awaitable[dict[str, Any]]]
#: Of grpc.aio, which has no types.
Asked = Any


class Scaler:
    """``told`` is the document of ``router capacity``."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self._handlers(),))

    def listen(self, address: str) -> int:
        """Returns the port. Raises RuntimeError when it is taken."""
        return int(self._server.add_insecure_port(address))

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(_STOP_S)

    def _handlers(self) -> Asked:
        one, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        methods = {
            "IsActive": one(self.is_active),
            "StreamIsActive": stream(self.stream_is_active),
            "GetMetricSpec": one(self.metric_spec),
            "GetMetrics": one(self.metrics),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def is_active(self, data: bytes, asked: Asked) -> bytes:
        return messages.is_active(await self._needed(await _read(data, asked), asked) > 0)

    async def stream_is_active(self, data: bytes, asked: Asked) -> AsyncIterator[bytes]:
        """At once, and at every change."""
        who, before = await _read(data, asked), None
        while True:
            active = await self._needed(who, asked) > 0
            if active is not before:
                before = active
                yield messages.is_active(active)
            await asyncio.sleep(_LOOK_S)

    async def metric_spec(self, data: bytes, asked: Asked) -> bytes:
        await _read(data, asked)
        return messages.metric_spec(METRIC, 1.0)

    async def metrics(self, data: bytes, asked: Asked) -> bytes:
        try:
            who, metric = messages.read_metrics_request(data)
        except MessageError as error:
            await asked.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        await _check(who, asked)
        return messages.metric_value(metric or METRIC, await self._needed(who, asked))

    async def _needed(self, who: ScaledObject, asked: Asked) -> int:
        """All that is needed of the model where the trigger says. Whoever waits needs one at least."""
        try:
            return needed_number((await self._told())["data"], who.metadata["model"], who.metadata.get("region"))
        except UnheardError as error:
            await asked.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        except NoNumberError as error:
            await asked.abort(grpc.StatusCode.NOT_FOUND, str(error))
        raise AssertionError("an abort raises")


async def _read(data: bytes, asked: Asked) -> ScaledObject:
    try:
        who = messages.read_scaled_object(data)
    except MessageError as error:
        await asked.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    await _check(who, asked)
    return who


async def _check(who: ScaledObject, asked: Asked) -> None:
    if not who.metadata.get("model"):
        await asked.abort(grpc.StatusCode.INVALID_ARGUMENT, "the metadata of the trigger names no model")
