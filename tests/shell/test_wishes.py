"""A wish for a region holds for its backends; each of them can be let off."""

from __future__ import annotations

from tests.support.drained import draining, router
from tests.support.shared_store import SharedStore


async def test_one_backend_of_a_drained_region_can_be_resumed(store: SharedStore) -> None:
    one, fleet = router(store)
    await one.set("us-east", True)
    await one.set("us-east/b", False)
    assert draining(fleet) == {"us-east/a"}
    assert set(await store.get_runtime()) == {"drain:us-east/a"}
    await one.set("us-east", True)
    assert set(await store.get_runtime()) == {"drain:us-east"}
    await one.set("us-east", False)
    assert draining(fleet) == set()


async def test_to_resume_a_region_resumes_its_backends(store: SharedStore) -> None:
    one, fleet = router(store)
    await one.set("us-east/a", True)
    await one.set("us-west/a", True)
    await one.set("us-east", False)
    assert draining(fleet) == {"us-west/a"}
