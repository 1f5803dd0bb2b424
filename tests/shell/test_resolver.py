"""Name servers are asked over real sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.discovery.dns_message import A
from router.discovery.resolver import LookUpError, Resolver, resolver_of
from tests.support.name_server import NameServer, name_server


def asking(*servers: NameServer, **more: object) -> Resolver:
    at = tuple((s.address.rpartition(":")[0], int(s.address.rpartition(":")[2])) for s in servers)
    return Resolver(at, **{"wait_s": 0.3, **more})  # type: ignore[arg-type]


async def addresses(resolver: Resolver, name: str) -> list[str]:
    return sorted(str(r.data) for r in (await resolver.ask(name, A)).of(name, A))


async def test_all_addresses_of_a_name() -> None:
    async with name_server() as server:
        server.put("a.internal", "A", "10.0.0.1", "10.0.0.2")
        assert await addresses(asking(server), "a.internal") == ["10.0.0.1", "10.0.0.2"]
        assert await addresses(asking(server), "A.Internal.") == ["10.0.0.1", "10.0.0.2"]
        assert await addresses(asking(server), "none.internal") == []


async def test_an_answer_that_is_too_long_comes_over_tcp() -> None:
    async with name_server(udp_bytes=100) as server:
        many = [f"10.0.{n // 250}.{n % 250 + 1}" for n in range(600)]
        server.put("a.internal", "A", *many)
        assert await addresses(asking(server), "a.internal") == sorted(many)
        assert [how for how, *_ in server.asked] == ["udp", "tcp"]


async def test_the_next_server_is_asked_when_one_is_silent_or_fails() -> None:
    async with name_server(silent=True) as silent, name_server(code=2) as failing, name_server() as good:
        good.put("a.internal", "A", "10.0.0.1")
        assert await addresses(asking(silent, failing, good), "a.internal") == ["10.0.0.1"]


async def test_no_answer_is_an_error_that_says_why() -> None:
    async with name_server(silent=True) as silent, name_server(code=2) as failing, name_server(code=5) as refusing:
        for server, why in ((silent, "does not answer"), (failing, "failed"), (refusing, "refused")):
            with pytest.raises(LookUpError, match=why):
                await asking(server, wait_s=0.1).ask("a.internal", A)
    with pytest.raises(LookUpError):
        await asking(server, wait_s=0.1).ask("a.internal", A)
    with pytest.raises(LookUpError, match="not a host name"):
        await asking(server, wait_s=0.1).ask("a..internal", A)


async def test_short_names_are_looked_for_in_the_search_list() -> None:
    async with name_server() as server:
        server.put("vllm.ml.svc.cluster.local", "A", "10.0.0.1")
        resolver = asking(server, search=("ml.svc.cluster.local", "svc.cluster.local"), dots=5)
        assert await addresses(resolver, "vllm") == ["10.0.0.1"]
        assert await addresses(resolver, "vllm.ml") == ["10.0.0.1"]
        server.asked.clear()
        assert await addresses(resolver, "vllm.ml.svc.cluster.local.") == ["10.0.0.1"]
        assert len(server.asked) == 1, "a name with its last dot is asked for as it is"


def test_the_file_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(
        "# none\nsearch ml.svc.cluster.local\nnameserver 10.96.0.10\nnameserver fd00::53\noptions ndots:5 edns0\n"
    )
    resolver = Resolver.of_system(str(path))
    assert resolver.servers == (("10.96.0.10", 53), ("fd00::53", 53))
    assert (resolver.search, resolver.dots) == (("ml.svc.cluster.local",), 5)
    with pytest.raises(LookUpError, match="cannot be read"):
        Resolver.of_system(str(tmp_path / "none"))
    assert resolver_of(["127.0.0.1", "5353"]).servers == (("127.0.0.1", 5353),)
