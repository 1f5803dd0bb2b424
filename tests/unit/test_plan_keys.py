"""The keys of plans."""

from __future__ import annotations

import pytest

from router.config import parse, warnings
from router.config.plan_keys import PLANS
from router.core.limits import KINDS
from router.errors import ConfigError

FLEET = '[[regions]]\nname = "us"\n[[regions.backends]]\nname = "a"\nurl = "http://10.0.0.1"\nmodels = ["llama"]\n'


def test_a_plan_has_a_key_for_every_kind_of_limit() -> None:
    names = {key.name for key in PLANS.keys}
    assert {kind.key for kind in KINDS} <= names
    text = "".join(f"{kind.key} = 7\n" for kind in KINDS)
    limits = parse(f"[plans.p]\n{text}", "f.toml", env={}).plans["p"].limits
    assert [limits[i] for i, kind in enumerate(KINDS)] == [7_000_000 if kind.money else 7 for kind in KINDS]
    for kind in KINDS:
        with pytest.raises(ConfigError, match=kind.key):
            parse(f"[plans.p]\n{kind.key} = 0\n", "f.toml", env={})


def test_models_of_a_plan() -> None:
    config = parse('[plans.p]\nmodels = ["llama", "chat"]\n[models.chat]\ntargets = [{model = "llama"}]\n' + FLEET, "f")
    plan = config.plans["p"]
    assert (plan.permits("llama"), plan.permits("chat"), plan.permits("big")) == (True, True, False)
    assert not plan.unlimited
    assert config.plans["default"].permits("anything")
    assert not [line for line in warnings(config) if "models" in line]


def test_a_model_of_a_plan_that_nobody_serves_is_told() -> None:
    config = parse('[plans.p]\nmodels = ["lama"]\n' + FLEET, "f.toml", env={})
    (told,) = [line for line in warnings(config) if "models" in line]
    assert 'no backend serves "lama"' in told
    assert "llama" in told.partition("lama")[2]
    with pytest.raises(ConfigError, match="twice"):
        parse('[plans.p]\nmodels = ["a", "a"]\n' + FLEET, "f.toml", env={})
