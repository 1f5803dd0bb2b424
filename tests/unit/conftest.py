"""A router of its own for each unit test that asks for one."""

from __future__ import annotations

import pytest

from tests.support.playbook import Playbook


@pytest.fixture
async def book(monkeypatch: pytest.MonkeyPatch) -> Playbook:
    """A whole router without sockets, with the configuration most tests use."""
    return Playbook(monkeypatch)
