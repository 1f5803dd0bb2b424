"""An admin API for the tests of its routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.control import TOML, Admin, administering
from tests.support.shared_store import SharedStore


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    path = tmp_path / "regions.toml"
    path.write_text(TOML)
    async with administering(path) as made:
        # the first probes go out at once; nobody listens there
        await asyncio.sleep(0.05)
        yield made


@pytest.fixture
def store() -> SharedStore:
    """A store that several routers of a test share."""
    return SharedStore()
