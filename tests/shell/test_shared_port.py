"""On a shared port new clients come to the newest, and none is lost when one closes. Needs Linux."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from router.wire.shared_port import Turn, is_shared, share

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux steers clients")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def bound(stack: ExitStack, port: int = 0) -> socket.socket:
    made = stack.enter_context(socket.socket())
    share(made)
    made.bind(("127.0.0.1", port))
    made.setblocking(False)
    return made


def listening(stack: ExitStack, port: int = 0) -> tuple[socket.socket, Turn]:
    made = bound(stack, port)
    made.listen(100)
    return made, Turn(made)


def come(stack: ExitStack, listener: socket.socket, count: int = 30) -> None:
    for _ in range(count):
        stack.enter_context(socket.create_connection(listener.getsockname()))


def taken(stack: ExitStack, listener: socket.socket) -> int:
    count = 0
    while True:
        try:
            stack.enter_context(listener.accept()[0])
        except BlockingIOError:
            return count
        count += 1


def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_the_newest_gets_the_clients_from_the_moment_that_it_listens(stack: ExitStack) -> None:
    one, _ = listening(stack)
    assert is_shared(one)
    two = bound(stack, port(one))
    come(stack, one)
    assert taken(stack, one) == 30, "the second is bound and does not listen yet"
    two.listen(100)
    Turn(two)
    come(stack, one)
    assert (taken(stack, one), taken(stack, two)) == (0, 30)


def test_when_the_older_closes_the_newer_goes_on_alone_and_so_does_its_successor(stack: ExitStack) -> None:
    current, turn = listening(stack)
    for _ in range(5):
        successor, its_turn = listening(stack, port(current))
        assert turn.pass_on(), "there is another one"
        come(stack, current)
        assert (taken(stack, current), taken(stack, successor)) == (0, 30)
        current.close()
        come(stack, successor)
        assert taken(stack, successor) == 30
        current, turn = successor, its_turn
    assert not turn.pass_on(), "it is alone"


def test_when_the_newer_stops_the_older_takes_over_again(stack: ExitStack) -> None:
    one, _ = listening(stack)
    two, turn = listening(stack, port(one))
    assert turn.pass_on()
    come(stack, one)
    assert (taken(stack, one), taken(stack, two)) == (30, 0)
    two.close()
    come(stack, one)
    assert taken(stack, one) == 30
