"""The tunables: each is used, and each is sane."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from math import isfinite
from pathlib import Path

import pytest

import router.core
from router.core.params import Params

CORE = Path(router.core.__file__).parent
NAMES = [field.name for field in fields(Params)]


def test_every_tunable_is_used() -> None:
    sources = "".join(path.read_text() for path in CORE.rglob("*.py") if path.name != "params.py")
    assert [name for name in NAMES if f"params.{name}" not in sources] == []


def test_every_tunable_has_its_reason_above_it() -> None:
    lines = [line.strip() for line in (CORE / "params.py").read_text().splitlines()]
    bare = []
    for name in NAMES:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{name}:"))
        while lines[at].partition(":")[0] in NAMES:  # tunables that belong together share a comment
            at -= 1
        if not lines[at].startswith("#:"):
            bare.append(name)
    assert bare == []


def test_they_are_positive_and_finite() -> None:
    params = Params()
    assert all(isfinite(getattr(params, name)) and getattr(params, name) > 0 for name in NAMES)
    ratios = [getattr(params, name) for name in NAMES if name.endswith("_ratio") and name != "toll_ratio"]
    assert all(0.0 < ratio <= 1.0 for ratio in ratios)


def test_they_do_not_change_under_way() -> None:
    with pytest.raises(FrozenInstanceError):
        Params().tick_s = 1.0  # type: ignore[misc]
