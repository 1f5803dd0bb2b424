from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.valkey import Valkey


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Valkey]:
    """One server for the tests that do no harm to it."""
    with Valkey() as valkey:
        yield valkey


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    """A server of the test's own, to freeze and kill."""
    with Valkey() as valkey:
        yield valkey
