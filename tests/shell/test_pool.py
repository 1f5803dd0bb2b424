"""upstream/pool.py: what a connection that does not come about is."""

from __future__ import annotations

import socket
import time

import pytest

from router.core.types import BackendSpec, RegionSpec
from router.upstream.pool import ConnectError, Pool
from tests.support.blackhole import blackhole


def pool_of(port: int) -> Pool:
    return Pool(BackendSpec("r/a", RegionSpec("r"), f"http://127.0.0.1:{port}"), time.monotonic)


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
