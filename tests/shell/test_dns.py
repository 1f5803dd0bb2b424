"""A DNS name is followed: every address is a backend, for as long as the name server says."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from router.config import Source
from router.core.roll import Sighting
from router.core.types import RegionSpec
from router.discovery import dns
from router.discovery.dns import follow_name, look_up
from router.discovery.resolver import LookUpError
from router.discovery.sources import Following
from router.tasks import spawn, stop
from tests.support.name_server import NameServer, name_server

EAST = RegionSpec("us-east")


def source(server: NameServer, host: str = "vllm.internal:8000", kind: str = "dns", **more: Any) -> Source:
    return Source("gpus", kind, EAST, host=host, nameserver=server.address, engine="vllm", **more)


def places(sightings: Sequence[Sighting]) -> dict[str, str]:
    return {s.spec.name: s.spec.url for s in sightings}


async def test_every_address_of_both_families_is_a_backend() -> None:
    async with name_server(ttl_s=20) as server:
        server.put("vllm.internal", "A", "10.0.0.1", "10.0.0.2")
        server.put("vllm.internal", "AAAA", "fd00::7")
        found, ttl_s = await look_up(source(server))
    assert places(found) == {
        "us-east/10.0.0.1-8000": "http://10.0.0.1:8000",
        "us-east/10.0.0.2-8000": "http://10.0.0.2:8000",
        "us-east/fd00--7-8000": "http://[fd00::7]:8000",
    }
    assert ttl_s == 20
    assert all(s.spec.engine == "vllm" and s.ready for s in found)


async def test_a_certificate_is_for_the_name() -> None:
    async with name_server() as server:
        server.put("vllm.internal", "A", "10.0.0.1")
        found, _ = await look_up(source(server, scheme="https"))
        assert found[0].spec.tls_server_name == "vllm.internal"
        found, _ = await look_up(source(server, scheme="https", tls_server_name="other"))
        assert found[0].spec.tls_server_name == "other"


@pytest.mark.parametrize("along", [True, False])
async def test_every_srv_record_is_a_backend_at_its_own_port(along: bool) -> None:
    async with name_server(along=along) as server:
        server.put("_http._tcp.vllm.internal", "SRV", "0 1 8001 a.internal", "5 1 8002 b.internal")
        server.put("a.internal", "A", "10.0.0.1")
        server.put("b.internal", "A", "10.0.0.2", "10.0.0.3")
        found, _ = await look_up(source(server, "_http._tcp.vllm.internal", "srv"))
        assert (server.count("A") == 0) is along
    assert sorted(places(found).values()) == ["http://10.0.0.1:8001", "http://10.0.0.2:8002", "http://10.0.0.3:8002"]


async def test_a_name_without_records_has_no_backends_and_one_that_does_not_exist_says_nothing() -> None:
    async with name_server() as server:
        server.put("vllm.internal", "A")
        assert (await look_up(source(server)))[0] == []
        for host, kind in (("misspelt.internal:8000", "dns"), ("_http._tcp.misspelt.internal", "srv")):
            with pytest.raises(LookUpError, match=r"there is no name [a-z_.]*misspelt.internal \(NXDOMAIN\)"):
                await look_up(source(server, host, kind))
        server.code = 2
        with pytest.raises(LookUpError):
            await look_up(source(server))


async def test_half_an_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    async with name_server() as server:
        server.put("vllm.internal", "A", "10.0.0.1")
        answer = server.answer

        def without_v6(query: bytes, how: str) -> bytes | None:
            server.code = 2 if query[-15:-11] == b"\x00\x1c\x00\x01" else 0
            return answer(query, how)

        monkeypatch.setattr(server, "answer", without_v6)
        with pytest.raises(LookUpError):
            await look_up(source(server))


async def test_a_name_is_followed_and_its_time_to_live_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "OFTEN_S", 0.02)
    monkeypatch.setattr(dns, "_AGAIN_S", 0.02)
    told: list[set[str]] = []
    failed: list[str] = []
    async with name_server(ttl_s=0) as server:
        server.put("vllm.internal", "A", "10.0.0.1")
        following = Following(
            source(server), lambda s: told.append(set(places(s).values())), failed.append, lambda texts: None
        )
        task = spawn(follow_name(following), name="follow")
        try:
            await until(lambda: {"http://10.0.0.1:8000"} in told)
            server.put("vllm.internal", "A", "10.0.0.1", "10.0.0.2")
            await until(lambda: {"http://10.0.0.1:8000", "http://10.0.0.2:8000"} in told)
            server.code = 2
            await until(lambda: failed)
            before = len(told)
            server.code, server.ttl_s = 0, 300
            await until(lambda: len(told) > before)
            asked = len(server.asked)
            await asyncio.sleep(0.15)
            assert len(server.asked) == asked, "an answer that holds for 300 s is not asked for again"
        finally:
            await stop(task)


async def until(what: Any) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
