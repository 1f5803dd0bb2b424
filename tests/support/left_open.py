"""Closes with a failed test the servers and connections that it leaves open.

A test that fails has no time to close its connections. The loop might wait for them for ever when it closes, or the
collector might find them during another test, which would fail for what it had no part in.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Generator
from typing import Any

import uvloop

from tests.support import time_limit

_SERVER, *_TRANSPORTS = (vars(uvloop.loop)[name] for name in ("Server", "TCPTransport", "UnixTransport"))


class Loop(time_limit.Loop):
    """A loop that closes all servers and connections when the test or fixture it runs fails."""

    def run_until_complete(self, future: Generator[Any, None, Any] | Awaitable[Any]) -> Any:
        try:
            return super().run_until_complete(future)
        except BaseException:
            if not self.is_closed():
                _close_all()
                for _ in range(3):  # the other ends see it, and the loop lets go of both
                    super().run_until_complete(asyncio.sleep(0))
            raise


def _close_all() -> None:
    """The loop has no list of them."""
    for thing in gc.get_objects():
        if isinstance(thing, _SERVER):
            thing.close()
        elif isinstance(thing, tuple(_TRANSPORTS)):
            thing.abort()
