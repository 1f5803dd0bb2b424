"""Sockets that are bound here, and sockets that are handed down. Each case runs in a process of its own, because
descriptors that are handed down have fixed numbers."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.support.ports import free_port
from tests.support.router import ROOT

#: Prints the addresses that are listened on, or why none are. Takes descriptors, a name for each, and the file.
OPEN = """
import os, sys
from router.config import parse
from router.errors import ConfigError
from router.wire.listeners import ListenError, Listeners, address_of
fds = [int(n) for n in sys.argv[1].split(",") if n]
for n, fd in enumerate(fds):
    os.dup2(fd, 100 + n)
for n in range(len(fds)):
    os.dup2(100 + n, 3 + n)
environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": sys.argv[2]}
config = parse(sys.argv[3], "regions.toml")
try:
    taken = Listeners.open(config, environ)
    router = taken.in_force(config).router
    print(address_of(taken.clients), address_of(taken.admin), router.listen, router.admin)
    print(os.get_inheritable(taken.clients.fileno()), taken.clients.getblocking())
except ListenError as error:
    print(error)
except ConfigError as error:
    print(*error.problems)
"""


def opened(*sockets: socket.socket, names: str = "", config: str = "") -> list[str]:
    fds = [each.fileno() for each in sockets]
    command = [sys.executable, "-c", OPEN, ",".join(map(str, fds)), names, config]
    done = subprocess.run(command, cwd=ROOT, pass_fds=fds, capture_output=True, timeout=60, check=True)
    return done.stdout.decode().splitlines()


def router(clients: int, admin: int, more: str = "") -> str:
    return f'[router]\nlisten = "127.0.0.1:{clients}"\nadmin = "127.0.0.1:{admin}"\n{more}'


@pytest.fixture
def stack() -> ExitStack:
    with ExitStack() as made:
        yield made


def listening(stack: ExitStack, host: str = "127.0.0.1") -> socket.socket:
    made = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    made.bind((host, 0))
    made.listen(5)
    return made


def port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


@pytest.mark.parametrize("names", ["", "clients:admin", "admin:clients"])
def test_both_are_handed_down(stack: ExitStack, names: str) -> None:
    one, two = listening(stack), listening(stack)
    found = opened(one, two, names=names, config=router(free_port(), free_port()))
    clients, admin = (two, one) if names.startswith("admin") else (one, two)
    where = f"127.0.0.1:{port(clients)} 127.0.0.1:{port(admin)}"
    assert found == [f"{where} {where}", "False False"], "and those are in force"


def test_the_other_one_is_bound(stack: ExitStack) -> None:
    one, own = listening(stack), free_port()
    where = f"127.0.0.1:{port(one)} 127.0.0.1:{own}"
    assert opened(one, names="clients", config=router(free_port(), own))[0] == f"{where} {where}"
    where = f"127.0.0.1:{own} 127.0.0.1:{port(one)}"
    assert opened(one, names="admin", config=router(own, free_port()))[0] == f"{where} {where}"


def test_none_is_handed_down() -> None:
    where = f"127.0.0.1:{free_port()} 127.0.0.1:{free_port()}"
    clients, admin = (int(address.rpartition(":")[2]) for address in where.split(" "))
    assert opened(config=router(clients, admin))[0] == f"{where} {where}"


def test_a_port_in_use_is_said_in_one_line(stack: ExitStack) -> None:
    taken = port(listening(stack))
    for shared in ("", "share_port = true"):
        [line] = opened(config=router(taken, free_port(), shared))
        assert line == f"127.0.0.1:{taken} is in use by another process. Change it with [router] listen, or --listen."
    [line] = opened(config=router(free_port(), taken))
    assert "[router] admin, or --admin" in line


def test_wrong_ones_are_refused(stack: ExitStack) -> None:
    one, two, three = (listening(stack) for _ in range(3))
    config = router(free_port(), free_port())
    assert "3 sockets were handed down" in opened(one, two, three, config=config)[0]
    assert 'named "meridian.socket"' in opened(one, two, names="clients:meridian.socket", config=config)[0]
    assert "two sockets named admin" in opened(one, two, names="admin:admin", config=config)[0]
    deaf = stack.enter_context(socket.socket())
    deaf.bind(("127.0.0.1", 0))
    for wrong in (deaf, stack.enter_context(socket.socket(socket.AF_UNIX))):
        assert opened(wrong, config=config) == [
            "descriptor 3 was handed down for clients: it is not a TCP socket that listens."
        ]


@pytest.mark.parametrize(
    ("auth", "handed", "problem"),
    [
        ('mode = "open"', "clients", '[auth] mode: "open" would let anybody'),
        ("", "admin", "[router] admin: other machines can reach 0.0.0.0:"),
        ('mode = "open"\nallow_open = true', "clients", None),
    ],
)
def test_an_open_router_is_not_handed_an_address_that_others_reach(
    stack: ExitStack, auth: str, handed: str, problem: str | None
) -> None:
    public = listening(stack, "0.0.0.0")
    config = router(free_port(), free_port(), f"[auth]\n{auth}\n")
    found = opened(public, names=handed, config=config)
    assert f"0.0.0.0:{port(public)}" in found[0]
    assert problem is None or problem in found[0]
    assert (problem is None) is (len(found) == 2)


def test_an_ipv6_address_has_brackets(stack: ExitStack) -> None:
    try:
        one = listening(stack, "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    assert opened(one, config=router(free_port(), free_port()))[0].startswith(f"[::1]:{port(one)} ")
