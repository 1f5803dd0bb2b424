"""A backend on a thread of its own, for routers that outlive one test and its event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from tests.support.backends import ScriptedBackend


@contextmanager
def backend_on_a_thread(*backends: ScriptedBackend) -> Iterator[ScriptedBackend]:
    """The first of them, all being served."""
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for backend in backends:
                await stack.enter_async_context(backend)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(5)
        yield backends[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()
