"""A write of an operator is tried again while the store does not answer."""

from __future__ import annotations

import pytest

from router.errors import RouterError
from router.store.courier import LinkError
from router.store.insist import insist, once


class Store:
    """Fails as often as it is told, then answers."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.asked = 0

    async def write(self) -> str:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise LinkError("no answer in time")
        return "written"


async def test_it_is_tried_until_it_is_written() -> None:
    store = Store(3)
    assert await insist(store.write) == "written"
    assert store.asked == 4


async def test_it_ends_and_says_that_nobody_knows() -> None:
    store = Store(1_000_000)
    with pytest.raises(RouterError) as caught:
        await insist(store.write, wait_s=0.25)
    assert store.asked > 1
    assert caught.value.code == "store_unavailable"
    assert "run it again" in str(caught.value.detail)


async def test_what_is_tried_again_elsewhere_is_tried_once() -> None:
    store = Store(1)
    with pytest.raises(RouterError):
        await once(store.write())
    assert store.asked == 1


async def test_other_errors_are_not_waited_for() -> None:
    async def wrong() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await insist(wrong)
