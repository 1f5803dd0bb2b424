"""KEDA's external scaler over real gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.control import keda_messages as messages
from router.control.keda_messages import ScaledObject
from router.core.needed import REASONS

grpc = pytest.importorskip("grpc", reason="the extra keda is not installed")

from router.control.keda import METRIC, SERVICE, Scaler  # noqa: E402


def entry(region: str, needed: int | None, waiting: float = 0.0, reason: str | None = None) -> dict[str, Any]:
    known = {"region": region, "model": "meta/llama", "there": 0, "waiting": waiting, "needed": needed}
    return known | {"reason": reason, "meaning": None if reason is None else REASONS[reason]}


class Asker:
    """A client, and the numbers that the scaler is told."""

    def __init__(self, channel: Any, entries: list[dict[str, Any]]) -> None:
        self.channel = channel
        self.entries = entries

    async def ask(self, method: str, data: bytes) -> bytes:
        return bytes(await self.channel.unary_unary(f"/{SERVICE}/{method}")(data))

    async def refused(self, method: str, data: bytes) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask(method, data)
        return caught.value.code()


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    entries = [entry("us-east", 3), entry("eu-west", 0)]

    async def told() -> dict[str, Any]:
        return {"data": entries}

    scaler = Scaler(told)
    port = scaler.listen("127.0.0.1:0")
    await scaler.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Asker(channel, entries)
    await scaler.stop()


def who(**metadata: str) -> ScaledObject:
    return ScaledObject("vllm", "prod", metadata)


async def test_the_number_of_one_region_and_of_all(asker: Asker) -> None:
    for metadata, number in (({"region": "us-east"}, 3), ({"region": "eu-west"}, 0), ({}, 3)):
        asks = who(model="meta/llama", **metadata)
        value = await asker.ask("GetMetrics", messages.metrics_request(asks, METRIC))
        assert value == messages.metric_value(METRIC, number)
        active = await asker.ask("IsActive", messages.scaled_object(asks))
        assert active == messages.is_active(number > 0)


async def test_a_model_as_a_label_spells_it(asker: Asker) -> None:
    assert await asker.ask("IsActive", messages.scaled_object(who(model="meta_llama"))) == messages.is_active(True)


async def test_the_target_is_one_for_each(asker: Asker) -> None:
    asks = messages.scaled_object(who(model="meta/llama"))
    assert await asker.ask("GetMetricSpec", asks) == messages.metric_spec(METRIC, 1.0)


async def test_those_who_wait_need_one(asker: Asker) -> None:
    asker.entries[:] = [entry("us-east", 0, waiting=2.0)]
    asks = who(model="meta/llama", region="us-east")
    assert await asker.ask("IsActive", messages.scaled_object(asks)) == messages.is_active(True)


async def test_changes_are_pushed(asker: Asker) -> None:
    asker.entries[:] = [entry("us-east", 0)]
    call = asker.channel.unary_stream(f"/{SERVICE}/StreamIsActive")(messages.scaled_object(who(model="meta/llama")))
    async with asyncio.timeout(10):
        assert await call.read() == messages.is_active(False)
        asker.entries[:] = [entry("us-east", 1)]
        assert await call.read() == messages.is_active(True)
    call.cancel()


async def test_what_is_refused(asker: Asker) -> None:
    assert await asker.refused("IsActive", messages.scaled_object(who())) is grpc.StatusCode.INVALID_ARGUMENT
    assert await asker.refused("IsActive", b"\xff") is grpc.StatusCode.INVALID_ARGUMENT
    assert await asker.refused("GetMetrics", b"\x0a\xff") is grpc.StatusCode.INVALID_ARGUMENT
    unknown = messages.scaled_object(who(model="other"))
    assert await asker.refused("IsActive", unknown) is grpc.StatusCode.NOT_FOUND
    asker.entries[:] = [entry("us-east", None)]
    no_target = messages.scaled_object(who(model="meta/llama"))
    assert await asker.refused("IsActive", no_target) is grpc.StatusCode.NOT_FOUND
    asker.entries[:] = [entry("us-east", None, reason="unheard"), entry("eu-west", 2)]
    assert await asker.refused("IsActive", no_target) is grpc.StatusCode.UNAVAILABLE, (
        "a sum without a region would be too low"
    )
