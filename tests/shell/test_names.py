"""wire/names.py and wire/dial.py: names that hang, fail and change, and addresses that are dead or slow."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest

from router.wire.dial import dial
from router.wire.names import Address, Name, Names, UnknownNameError
from tests.support.blackhole import blackhole

V4, V6 = socket.AF_INET, socket.AF_INET6
ONE, TWO, SIX = Address(V4, "127.0.0.1"), Address(V4, "127.0.0.2"), Address(V6, "::1", (0, 0))


class Resolver:
    """A resolver whose answers a test decides. ``answers``: addresses, an error, or an event that it hangs on."""

    def __init__(self, **answers: tuple[Address, ...] | OSError | threading.Event) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str) -> tuple[Address, ...]:
        self.asked.append(host)
        answer = self.answers[host.partition(".")[0]]
        if isinstance(answer, threading.Event):
            answer.wait(20)
            return (ONE,)
        if isinstance(answer, OSError):
            raise answer
        return answer


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def settle(name: Name) -> None:
    """Until the look-up in progress has ended."""
    end_s = time.monotonic() + 10
    while name.asking and time.monotonic() < end_s:  # noqa: ASYNC110
        await asyncio.sleep(0.002)
    assert not name.asking


async def test_a_name_that_hangs_holds_up_no_other_however_many_hang() -> None:
    stuck = threading.Event()
    names = Names(time.monotonic, look_up=Resolver(hangs=stuck, good=(ONE,)))
    hanging = [names.of(f"hangs.{i}") for i in range(40)]
    began_s = time.monotonic()
    assert await names.of("good").resolve(5.0) == (ONE,)
    with pytest.raises(UnknownNameError):
        await hanging[0].resolve(0.25)
    assert time.monotonic() - began_s < 3
    began_s = time.monotonic()
    with pytest.raises(UnknownNameError):
        await hanging[0].resolve(0.25)
    assert time.monotonic() - began_s < 0.2, "only the first moments of a look-up are waited for"
    stuck.set()
    for name in hanging:
        await settle(name)
        assert name.addresses == (ONE,)


async def test_what_was_found_is_kept_while_the_resolver_fails_or_hangs() -> None:
    clock, resolver = Clock(), Resolver(a=(ONE, TWO))
    names = Names(clock, look_up=resolver)
    name = names.of("a")
    await name.resolve(5.0)
    for answer in (OSError(-3, "temporary failure"), threading.Event()):
        resolver.answers["a"] = answer
        clock.now_s += names.age_s + 1
        name.sweep()
        assert name.asking
        if isinstance(answer, OSError):
            await settle(name)
        assert await name.resolve() == (ONE, TWO)
    answer.set()
    await settle(name)
    assert name.addresses == (ONE,)


async def test_a_change_is_followed_when_the_addresses_are_old_and_not_before() -> None:
    clock, resolver = Clock(), Resolver(a=(ONE,))
    names = Names(clock, look_up=resolver)
    name = names.of("a")
    await name.resolve(5.0)
    resolver.answers["a"] = (TWO,)
    name.sweep()
    assert not name.asking
    before = name.version
    clock.now_s += names.age_s
    name.sweep()
    await settle(name)
    assert (name.addresses, name.version) == ((TWO,), before + 1)
    resolver.answers["a"] = ()  # an answer without an address is a failure
    clock.now_s += names.age_s
    name.sweep()
    await settle(name)
    assert name.addresses == (TWO,)


async def test_an_address_is_never_looked_up() -> None:
    resolver = Resolver()
    names = Names(time.monotonic, look_up=resolver)
    assert await names.of("127.0.0.1").resolve() == (ONE,)
    assert await names.of("::1").resolve() == (SIX,)
    assert resolver.asked == []


async def test_one_name_is_one_for_all_who_ask_for_it() -> None:
    resolver = Resolver(a=(ONE,))
    names = Names(time.monotonic, look_up=resolver)
    first, second = names.of("a"), names.of("a")
    assert first is second
    await first.resolve(5.0)
    assert resolver.asked == ["a"]


async def test_the_order_of_addresses() -> None:
    three = Address(V4, "127.0.0.3")
    names = Names(clock := Clock(), look_up=Resolver(a=(SIX, ONE, TWO, three)))
    name = names.of("a")
    await name.resolve(5.0)
    assert name.usual == (SIX,), "connections are spread within the preferred family"
    assert name.in_order() == [SIX, ONE, TWO, three]
    assert name.in_order(TWO) == [TWO, SIX, ONE, three], "the other family comes next (RFC 8305)"
    name.avoid(SIX)
    assert name.usual == (ONE, TWO, three)
    assert name.in_order() == [ONE, TWO, three, SIX]
    clock.now_s += 31
    name.sweep()
    assert name.usual == (SIX,)


async def listen(host: str, port: int = 0) -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), host, port)
    return server, server.sockets[0].getsockname()[1]


async def resolved(*addresses: Address) -> Name:
    names = Names(time.monotonic, look_up=Resolver(a=addresses))
    name = names.of("a")
    await name.resolve(5.0)
    return name


async def test_a_silent_address_costs_a_moment_once() -> None:
    with blackhole() as port:  # 127.0.0.1 swallows what comes
        server, _ = await listen("127.0.0.2", port)
        name = await resolved(ONE, TWO)
        sock, address = await asyncio.wait_for(dial(name, port, ONE), 5)
        sock.close()
        assert address == TWO
        assert name.usual == (TWO,)
        assert name.in_order() == [TWO, ONE]
        server.close()


async def test_a_refusal_costs_nothing() -> None:
    server, port = await listen("127.0.0.2")
    name = await resolved(ONE, TWO)
    sock, address = await dial(name, port)
    sock.close()
    assert address == TWO
    server.close()


async def test_addresses_that_stay_silent_until_time_is_over_come_last_the_next_time() -> None:
    with blackhole() as port:
        name = await resolved(ONE, SIX)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(dial(name, port, ONE), 0.05)
        assert name.in_order() == [SIX, ONE]


async def test_an_address_that_is_only_far_is_not_avoided_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second address is tried beside a first one that takes longer than the delay, and loses."""
    server, port = await listen("127.0.0.1")
    name = await resolved(ONE, TWO)
    real = asyncio.get_running_loop().sock_connect

    async def far(sock: socket.socket, at: object) -> None:
        await asyncio.sleep(0.3)
        await real(sock, at)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", far)
    sock, address = await dial(name, port, ONE)
    sock.close()
    assert address == ONE
    assert name.usual == (ONE, TWO)
    server.close()


async def test_nobody_anywhere() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        name = await resolved(ONE, TWO)
        with pytest.raises(ConnectionRefusedError):
            await dial(name, taken.getsockname()[1])
