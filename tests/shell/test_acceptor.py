"""wire/acceptor.py and wire/descriptors.py: clients wait outside while there is no room, and nobody spins."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator

import pytest

from router.wire.acceptor import Acceptor
from router.wire.descriptors import RESERVE, Descriptors


class House:
    """Takes up to ``places`` clients."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.inside: list[socket.socket] = []
        self.asked = 0
        self.relieved = 0

    async def adopt(self, client: socket.socket) -> None:
        await asyncio.sleep(0)
        self.inside.append(client)

    def has_room(self, arriving: int, fd: int) -> bool:
        self.asked += 1
        return len(self.inside) + arriving < self.places

    def make_room(self) -> None:
        self.relieved += 1


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        made.listen(100)
        made.setblocking(False)
        yield made


def knock(listener: socket.socket, count: int) -> list[socket.socket]:
    return [socket.create_connection(listener.getsockname(), 5) for _ in range(count)]


def leave(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


async def test_who_finds_no_room_waits_outside_and_comes_in_when_there_is_some(listener: socket.socket) -> None:
    house = House(3)
    acceptor = Acceptor(listener, house, adopt=house.adopt)
    acceptor.start()
    clients = knock(listener, 8)
    async with asyncio.timeout(30):
        while house.relieved < 4:  # noqa: ASYNC110 - once for each time that it looks for room
            await asyncio.sleep(0.01)
        assert len(house.inside) == 3
        assert house.asked < 20, "no spinning"
        house.places = 8
        while len(house.inside) < 8:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    acceptor.close()
    leave(clients + house.inside)


async def test_those_who_have_connected_are_taken_before_it_closes(listener: socket.socket) -> None:
    house = House(100)
    acceptor = Acceptor(listener, house, adopt=house.adopt)
    acceptor.start()
    clients = knock(listener, 90)  # more than it takes in one turn
    acceptor.close()
    await asyncio.sleep(0.05)
    assert len(house.inside) == 90
    with pytest.raises(OSError, match=r"refused|closed|Bad file"):
        knock(listener, 1)
    leave(clients + house.inside)


def test_clients_get_half_of_the_descriptors_or_what_backends_cannot_use() -> None:
    assert Descriptors(10_000, limit=1024).clients_max == (1024 - RESERVE) // 2
    assert Descriptors(100, limit=1024).clients_max == 1024 - RESERVE - 100
    assert Descriptors(10_000, limit=64).clients_max == 24
    for limit in (8, 20, 64, 256, 20_000):
        for backends_max in (0, 3, 10**6):
            made = Descriptors(backends_max, limit=limit)
            assert 1 <= made.clients_max <= made.top < limit


def test_descriptors_are_scarce_when_only_the_reserve_is_left() -> None:
    top = max(int(name) for name in os.listdir("/proc/self/fd")) + 40
    made = Descriptors(0, limit=top + RESERVE)
    assert not made.scarce()
    held: list[int] = []
    while not held or held[-1] < made.top - 1:
        held.append(os.dup(2))
    assert made.scarce()
    os.close(held.pop())
    assert not made.scarce()
    for fd in held:
        os.close(fd)
