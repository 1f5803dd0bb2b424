"""A decision taken again as if the fleet were another one: from its candidates alone, and nothing is altered."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.decisions import Dispatch
from router.core.explain import explain
from router.core.params import Params
from router.core.policy import POLICIES
from router.core.what_if import WhatIf, added, decide_again
from tests.support.fleets import Driver, ask, fleet_of

PARAMS = Params()
NAMES = ("us-east/a", "us-east/b", "us-west/a", "eu-west/a")


def candidate(backend: str, struck: str | None = None, chosen: bool = False, **terms: float) -> dict[str, Any]:
    cost_s = None if struck else sum(terms.values())
    return {"backend": backend, "cost_s": cost_s, "terms": terms, "struck": struck, "chosen": chosen}


NEAR = candidate("us-east/a", chosen=True, rtt=0.01, queue=0.1, prefill=0.02)
FAR = candidate("eu-west/a", rtt=0.09, queue=0.0, prefill=0.1)
FULL = candidate("us-west/a", "saturated")


def test_without_the_region_it_goes_to_the_next_best() -> None:
    again = decide_again([NEAR, FAR, FULL], WhatIf(without=("us-east",)), PARAMS)
    assert (again["kind"], again["backend"], again["was"]) == ("dispatch", "eu-west/a", "us-east/a")
    assert again["worse_s"] == pytest.approx(0.06)
    assert again["predicted_ttft_s"] == pytest.approx(0.19)
    assert [c["backend"] for c in again["candidates"]] == ["eu-west/a", "us-west/a"]
    assert [c["backend"] for c in again["candidates"] if c["chosen"]] == ["eu-west/a"]


def test_without_one_that_it_did_not_use_it_stays() -> None:
    again = decide_again([NEAR, FAR], WhatIf(without=("eu-west/a",)), PARAMS)
    assert (again["backend"], again["reason"], again["worse_s"]) == ("us-east/a", "as before", 0.0)


def test_more_requests_lengthen_what_others_cost() -> None:
    assert decide_again([NEAR, FAR], WhatIf(scale=1.5), PARAMS)["backend"] == "us-east/a"
    again = decide_again([NEAR, FAR], WhatIf(scale=3.0), PARAMS)
    assert again["backend"] == "eu-west/a"
    near = next(c for c in again["candidates"] if c["backend"] == "us-east/a")
    assert near["terms"] == pytest.approx({"rtt": 0.01, "queue": 0.3, "prefill": 0.02})
    assert near["cost_s"] == pytest.approx(0.33)


def test_a_backend_more_is_idle_and_has_none_of_the_prompt() -> None:
    again = decide_again([NEAR, FAR], WhatIf(add=(("us-east/z", "us-east/a"),)), PARAMS)
    twin = next(c for c in again["candidates"] if c["backend"] == "us-east/z")
    assert twin["terms"] == pytest.approx({"rtt": 0.01, "queue": 0.0, "prefill": 0.1})
    assert again["backend"] == "us-east/z"
    full = decide_again([NEAR, FULL], WhatIf(add=(("us-west/z", "us-west/a"),)), PARAMS)
    assert {c["backend"]: c["struck"] for c in full["candidates"]}["us-west/z"] is None, (
        "it is not full as the other is"
    )
    bound = decide_again([candidate("eu-west/a", "residency")], WhatIf(add=(("eu-west/b", "eu-west/a"),)), PARAMS)
    assert bound["kind"] == "reject"


def test_where_nothing_is_left() -> None:
    gone = WhatIf(without=("us-east", "eu-west"))
    assert decide_again([NEAR, FAR], gone, PARAMS)["reason"] == "no_backend"
    assert decide_again([NEAR, FAR, FULL], gone, PARAMS)["kind"] == "wait"
    outside = candidate("us-west/a", "residency")
    assert decide_again([NEAR, outside], gone, PARAMS)["reason"] == "residency_unsatisfiable"
    failing = candidate("us-west/a", "failing")
    assert decide_again([NEAR, failing], gone, PARAMS)["backend"] == "us-west/a", "better than nothing"


@pytest.mark.parametrize(
    ("what", "part", "says"),
    [
        (WhatIf(without=("mars",)), "without", "eu-west, eu-west/a"),
        (WhatIf(add=(("us-east/z", "mars/a"),)), "add", 'no backend "mars/a"'),
        (WhatIf(add=(("us-east/a", "us-east/a"),)), "add", "already"),
        (WhatIf(add=(("mars/a", "us-east/a"),)), "add", "in a region that is there"),
        (WhatIf(add=(("us-east", "us-east/a"),)), "add", "REGION/NAME"),
        (WhatIf(scale=0.0), "scale", "0.01 to 1000"),
    ],
)
def test_problems_are_told(what: WhatIf, part: str, says: str) -> None:
    found = what.problem(["us-east/a", "eu-west/a"])
    assert found is not None
    assert found[0] == part
    assert says in found[1]


def test_words() -> None:
    what = WhatIf(("eu-west",), added(["us-east/d=us-east/a"]), 2.0)
    assert what.words() == "without eu-west, with us-east/d like us-east/a, 2 times the requests"
    assert what.problem(["us-east/a", "eu-west/a"]) is None
    assert not WhatIf()
    with pytest.raises(ValueError, match="NEW=LIKE"):
        added(["us-east/d"])


@pytest.mark.parametrize("policy", POLICIES)
@given(gone=st.sets(st.sampled_from([*NAMES, "us-east", "us-west", "eu-west"])), tokens=st.integers(1, 5000))
def test_what_is_gone_is_never_chosen_and_the_decision_is_left_alone(policy: str, gone: set[str], tokens: int) -> None:
    driver = Driver(fleet_of(*NAMES), policy)
    for i in range(4):
        driver.send(0.0, request_id=str(i), prompt_tokens=3000)
    decision = driver.fleet.decide(ask(prompt_tokens=tokens), driver.policy, 0.0, driver.rng, dry_run=True)
    assert isinstance(decision, Dispatch)
    candidates = explain(decision)["candidates"]
    before = deepcopy(candidates)
    again = decide_again(candidates, WhatIf(without=tuple(gone)), PARAMS)
    assert candidates == before
    left = [n for n in NAMES if n not in gone and n.partition("/")[0] not in gone]
    assert again["backend"] in left if left else again["backend"] is None
    if decision.lease.backend in left:
        assert again["backend"] == decision.lease.backend, "it was the choice with more to choose from"
