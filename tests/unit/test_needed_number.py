"""The number of one model that an autoscaler asks for."""

from __future__ import annotations

from typing import Any

import pytest

from router.control.needed_number import NoNumberError, UnheardError, needed_number


def group(region: str, needed: int | None, *, waiting: float = 0.0, reason: str = "load") -> dict[str, Any]:
    told = {"region": region, "model": "meta/llama", "needed": needed, "waiting": waiting}
    return told | {"reason": reason, "meaning": "a source was never heard"}


HERE, THERE = group("us-east", 3), group("eu-west", 2)


def test_the_number_of_a_region_and_of_all() -> None:
    assert needed_number([HERE, THERE], "meta/llama", "us-east") == 3
    assert needed_number([HERE, THERE], "meta/llama", None) == 5


def test_a_label_spells_the_model_otherwise() -> None:
    assert needed_number([HERE], "meta_llama", "us-east") == 3


def test_whoever_waits_needs_one() -> None:
    assert needed_number([group("us-east", 0, waiting=2.0)], "meta/llama", None) == 1
    assert needed_number([group("us-east", 0)], "meta/llama", None) == 0


def test_no_number_is_not_a_zero() -> None:
    with pytest.raises(NoNumberError, match=r"no number is asked for of other in us-east: .*target_ttft_s"):
        needed_number([HERE], "other", "us-east")
    with pytest.raises(NoNumberError):
        needed_number([group("us-east", None)], "meta/llama", None)
    with pytest.raises(UnheardError, match="nobody can say yet how many of meta/llama are needed: a source"):
        needed_number([THERE, group("us-east", None, reason="unheard")], "meta/llama", None)
