"""Routers and clients for the integration tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

OPEN = '[auth]\nmode = "open"\n'


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session
