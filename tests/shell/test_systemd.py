"""Sockets that a service manager hands down, and the lines that it is told."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from router import clock
from router.systemd import HandedDown, ServiceManager, handed_down


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(30)
        yield made


def hear(told: socket.socket) -> list[str]:
    return told.recv(4096).decode().split("\n")


ME = str(os.getpid())


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, []),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "2"}, [HandedDown("", 3), HandedDown("", 4)]),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}, [HandedDown("a", 3), HandedDown("b", 4)]),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a"}, [HandedDown("a", 3), HandedDown("", 4)]),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "2"}, []),
        ({"LISTEN_PID": ME}, []),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "two"}, []),
        ({"LISTEN_PID": ME, "LISTEN_FDS": "0"}, []),
        ({"LISTEN_FDS": "2"}, []),
    ],
)
def test_descriptors_are_for_the_process_that_is_named(environ: dict[str, str], found: list[HandedDown]) -> None:
    assert handed_down(environ) == found
    assert environ == {}, "and for none of its children"


async def test_the_manager_hears_of_the_start_of_reloads_and_of_the_end(told: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": told.getsockname()})
    manager.ready("serves")
    assert hear(told) == ["READY=1", "STATUS=serves"]
    with pytest.raises(RuntimeError), manager.reloading():
        first, second = hear(told)
        assert first == "RELOADING=1"
        name, _, usec = second.partition("=")
        assert name == "MONOTONIC_USEC"
        assert abs(int(usec) / 1e6 - clock.monotonic_s()) < 60
        raise RuntimeError
    assert hear(told) == ["READY=1"], "whatever came of the reload"
    manager.stopping(12.5)
    assert hear(told) == ["STOPPING=1", "STATUS=draining", "EXTEND_TIMEOUT_USEC=12500000"]
    await manager.close()


async def test_signs_of_life_come_twice_in_the_time_that_is_allowed(told: socket.socket) -> None:
    manager = ServiceManager(
        {"NOTIFY_SOCKET": told.getsockname(), "WATCHDOG_USEC": "40000", "WATCHDOG_PID": str(os.getpid())}
    )
    manager.ready("serves")
    assert hear(told)[0] == "READY=1"
    for _ in range(3):
        assert await asyncio.to_thread(hear, told) == ["WATCHDOG=1"]
    await manager.close()


async def test_a_watchdog_of_another_process_is_not_ours(told: socket.socket) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": told.getsockname(), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
    manager.ready("serves")
    await asyncio.sleep(0.02)
    manager.stopping(1)
    assert [hear(told)[0] for _ in range(2)] == ["READY=1", "STOPPING=1"]
    await manager.close()


async def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        name = f"meridian-test-{os.getpid()}"
        made.bind(f"\0{name}")
        made.settimeout(30)
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).stopping(1)
        assert hear(made)[0] == "STOPPING=1"


async def test_a_manager_that_cannot_be_told_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    manager.ready("serves")
    manager.stopping(1)
    assert len(caplog.records) == 1
    ServiceManager({}).stopping(1)
    assert len(caplog.records) == 1, "nobody asked"
