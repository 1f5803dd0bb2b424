"""upstream/pool.py: which connection a request gets, and what one that does not come about is."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from router.core.types import BackendSpec, RegionSpec
from router.upstream.pool import LAST_HOPE_TIMES, ConnectError, Network, Pool
from router.wire.head import Headers
from router.wire.names import Address, Names
from router.wire.outbound import Outbound
from tests.support.blackhole import blackhole


def pool_of(port: int) -> Pool:
    return Pool(BackendSpec("r/a", RegionSpec("r"), f"http://127.0.0.1:{port}"), Network.new(time.monotonic))


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectError) as caught:
            await pool_of(taken.getsockname()[1]).connect(30)
    assert caught.value.code == "upstream_unreachable"


async def test_a_connection_that_is_neither_accepted_nor_refused_is_a_failed_attempt_as_well() -> None:
    """The backlog of a listener that nobody serves is full, as behind a firewall that drops."""
    with blackhole() as port:
        with pytest.raises(ConnectError) as caught:
            await pool_of(port).connect(0.2)
    assert caught.value.code == "connect_timeout"


async def test_who_has_nobody_else_to_ask_waits_until_the_kernel_asks_again() -> None:
    """The backlog is full, so that the first packet is lost; then it is not."""
    hopes = []
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))

        def last_hope() -> bool:
            if not hopes:
                listener.listen(64)
            hopes.append(1)
            return True

        pool = pool_of(port)
        assert (await pool.connect(3.0 / LAST_HOPE_TIMES + 0.15, last_hope)).usable
        pool.close()
    assert 1 <= len(hopes) < LAST_HOPE_TIMES


async def test_the_last_hope_ends_too() -> None:
    hopes = []
    with blackhole() as port, pytest.raises(ConnectError) as caught:
        await pool_of(port).connect(0.05, lambda: not hopes.append(1))  # type: ignore[func-returns-value]
    assert caught.value.code == "connect_timeout"
    assert len(hopes) == LAST_HOPE_TIMES


async def test_a_connection_that_comes_back_goes_to_who_waits_for_a_new_one() -> None:
    async with engines(ONE) as e:
        pool = await named_pool(e.port, lambda _: (ONE,), Clock())
        busy = await pool.connect(5)
        gate = asyncio.Event()
        dial = pool.connect

        async def slow(timeout_s: float, last_hope: Callable[[], bool] = lambda: False) -> Outbound:
            await gate.wait()
            return await dial(timeout_s, last_hope)

        pool.connect = slow  # type: ignore[method-assign]
        first, left, second = (pool.order(5) for _ in range(3))
        left.cancel()
        pool._returned(busy)
        assert await first is busy
        other = await dial(5)
        pool._returned(other)
        assert await second is other, "who has left is passed over"
        assert pool.take(time.monotonic()) is None
        gate.set()
        async with asyncio.timeout(30):
            while len(pool.open) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        kept = {pool.take(time.monotonic()) for _ in range(3)}
        assert None not in kept, "what was ordered for them is there for the next"
        assert not pool._wanted
        for connection in pool.open:
            connection.transport.close()


async def test_a_connection_that_is_there_before_a_late_router_looks_is_in_time() -> None:
    async with engines(ONE) as found:
        pool = pool_of(found.port)
        connecting = asyncio.create_task(pool.connect(0.05))
        await asyncio.sleep(0)  # it has begun
        time.sleep(0.3)  # noqa: ASYNC251 - the router is starved; the backend's kernel has accepted meanwhile
        assert (await connecting).usable
        pool.close()


async def test_a_connection_that_is_given_up_while_it_is_made_leaves_no_cycle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is over after uvloop has told us of the connection, and before it tells who waits for it."""
    made, told = 0, Outbound.connection_made

    def give_up(connection: Outbound, transport: asyncio.BaseTransport) -> None:
        nonlocal made
        made += 1
        told(connection, transport)
        (connecting,) = [task for task in asyncio.all_tasks() if task.get_name() == "connecting"]
        connecting.cancel()

    monkeypatch.setattr(Outbound, "connection_made", give_up)
    async with engines(ONE) as found:
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.create_task(pool_of(found.port).connect(30), name="connecting")
            await asyncio.sleep(0.05)
            gc.collect()
            assert not any(isinstance(each, Outbound) for each in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
    assert made == 1


ONE, TWO = (Address(socket.AF_INET, f"127.0.0.{n}") for n in (1, 2))
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Engines:
    """The same port at several addresses, and who was asked."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked[writer.get_extra_info("sockname")[0]] += 1
                writer.write(ANSWER)
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def engines(*addresses: Address) -> AsyncIterator[Engines]:
    made, servers = Engines(), []
    for address in addresses:
        servers.append(await asyncio.start_server(made.serve, address.host, made.port))
        made.port = servers[0].sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        for server in servers:
            server.close()
        for writer in made.writers:
            writer.close()
        await asyncio.sleep(0.01)


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


class Sink:
    def __init__(self) -> None:
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_head(self, status: int, headers: Headers) -> None: ...
    def on_body(self, data: bytes, framed: bytes | None = None) -> None: ...

    def on_end(self, *, framed: bool) -> None:
        self.ended.set_result("end")

    def on_fail(self, reason: str, *, answered: bool) -> None:
        self.ended.set_result(reason)


async def ask(pool: Pool) -> Outbound:
    """One request, and the connection it was sent over."""
    connection = pool.take(time.monotonic()) or await pool.connect(5)
    sink = Sink()
    connection.send((b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",), sink)
    assert await asyncio.wait_for(sink.ended, 5) == "end"
    return connection


async def named_pool(port: int, look_up: Callable[[str], tuple[Address, ...]], clock: Clock) -> Pool:
    spec = BackendSpec("r/a", RegionSpec("r"), f"http://engine.test:{port}")
    pool = Pool(spec, Network(clock, Names(clock, look_up=look_up)))
    await pool._name.resolve(5)
    pool.sweep()
    return pool


async def test_requests_go_to_all_addresses_of_a_name_in_turn() -> None:
    async with engines(ONE, TWO) as e:
        pool = await named_pool(e.port, lambda _: (ONE, TWO), Clock())
        connections = {await ask(pool) for _ in range(20)}
        assert abs(e.asked[ONE.host] - e.asked[TWO.host]) <= 2
        assert len(connections) == 2, "one to each, and kept"
        pool.close()


async def test_nothing_is_kept_for_a_backend_that_was_taken_away() -> None:
    found, clock = [ONE], Clock()
    async with engines(ONE, TWO) as e:
        pool = await named_pool(e.port, lambda _: tuple(found), clock)
        in_use = await pool.connect(5)
        pool.close()
        late = await pool.connect(5)
        for connection in (in_use, late):
            pool._returned(connection)
            assert not connection.usable


async def test_many_at_once_are_spread_as_well() -> None:
    async with engines(ONE, TWO) as e:
        pool = await named_pool(e.port, lambda _: (ONE, TWO), Clock())
        await asyncio.gather(*(ask(pool) for _ in range(20)))
        assert abs(e.asked[ONE.host] - e.asked[TWO.host]) <= 2
        pool.close()


async def test_a_change_of_a_name_is_followed_and_old_connections_are_not_used_again() -> None:
    found, clock = [ONE], Clock()
    async with engines(ONE, TWO) as e:
        pool = await named_pool(e.port, lambda _: tuple(found), clock)
        in_use = await pool.connect(5)
        await ask(pool)
        found[:] = [TWO]
        clock.ahead_s += pool._network.names.age_s
        end_s = time.monotonic() + 10
        while pool._name.addresses != (TWO,) and time.monotonic() < end_s:
            pool.sweep()
            await asyncio.sleep(0.01)
        pool.sweep()
        e.asked.clear()
        pool._returned(in_use)
        for _ in range(3):
            await ask(pool)
        assert e.asked == {TWO.host: 3}
        assert not in_use.usable, "a request in progress ends in peace, and its connection with it"
        pool.close()


async def test_a_connection_is_used_for_so_long_and_not_longer() -> None:
    clock = Clock()
    async with engines(ONE) as e:
        pool = await named_pool(e.port, lambda _: (ONE,), clock)
        first = await ask(pool)
        assert await ask(pool) is first
        clock.ahead_s += pool._network.connection_age_s
        assert await ask(pool) is first, "it is looked at when it comes back"
        assert not first.usable
        assert await ask(pool) is not first
        pool.close()


async def test_a_connection_that_ends_is_no_longer_counted_at_its_address() -> None:
    async with engines(ONE) as e:
        pool = await named_pool(e.port, lambda _: (ONE,), Clock())
        connections = [await pool.connect(5) for _ in range(3)]
        shelf = connections[0].shelf
        assert shelf.connections == 3
        for connection in connections:
            connection.abort()
        await asyncio.sleep(0.05)
        assert (shelf.connections, pool.open) == (0, set())


async def test_an_own_shortage_is_not_the_backends_fault_and_gives_up_idle_connections_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relieved = []

    async def short(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    pool = pool_of(1)
    pool._network.relieve = lambda: relieved.append(1)
    monkeypatch.setattr("router.wire.dial._connect", short)
    with pytest.raises(ConnectError) as caught:
        await pool.connect(5)
    assert caught.value.code == "router_exhausted"
    assert relieved == [1]


async def test_a_name_that_cannot_be_resolved_fails_at_once_and_says_so() -> None:
    def unknown(_: str) -> tuple[Address, ...]:
        raise OSError(-2, "Name or service not known")

    spec = BackendSpec("r/a", RegionSpec("r"), "http://nobody.test:1")
    pool = Pool(spec, Network(time.monotonic, Names(time.monotonic, look_up=unknown)))
    with pytest.raises(ConnectError) as caught:
        await pool.connect(30)
    assert (caught.value.code, "host name" in caught.value.detail) == ("upstream_unreachable", True)


async def test_connections_are_kept_alive_by_tcp() -> None:
    async with engines(ONE) as e:
        pool = await named_pool(e.port, lambda _: (ONE,), Clock())
        connection = await pool.connect(5)
        fd = connection.transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=fd) as sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            sock.detach()
        pool.close()
