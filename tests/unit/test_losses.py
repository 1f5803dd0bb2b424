"""The models and plans that could not be served without some backends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.core.fleet import Fleet
from router.core.losses import losses
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec

EU, US = RegionSpec("eu-central", "eu"), RegionSpec("us-east", "us")
SPECS = [
    BackendSpec("eu-central/a", EU, "http://h:1", models=("m",), max_inflight=4),
    BackendSpec("us-east/a", US, "http://h:2", models=("m", "n"), max_inflight=4),
    BackendSpec("us-east/b", US, "http://h:3", models=("m",), max_inflight=4),
]
PLANS = {"gdpr": ("eu",), "both": ("eu", "us")}


def fleet(specs: list[BackendSpec] = SPECS) -> Fleet:
    made = Fleet(Params())
    made.apply(specs, 0.0)
    for spec in specs:
        made.observe_health(spec.name, True, 0.0)
    return made


def test_a_backend_that_others_replace() -> None:
    found = losses(fleet().backends.values(), {"us-east/b"}, PLANS, 0.0)
    assert not found.any
    assert (found.models, found.jurisdictions, found.plans) == ((), (), {})


def test_the_last_of_a_jurisdiction() -> None:
    found = losses(fleet().backends.values(), {"eu-central/a"}, PLANS, 0.0)
    assert (found.models, found.jurisdictions, found.plans) == ((), ("eu",), {"gdpr": ("m",)})
    assert found.any
    found = losses(fleet().backends.values(), {"eu-central/a"}, {}, 0.0)
    assert found.jurisdictions == ("eu",)
    assert found.any, "whoever may be served nowhere else is not served, whether or not a plan says so"


def test_one_that_sleeps_replaces_others_and_is_missed_itself() -> None:
    made = fleet([SPECS[1], SPECS[2]])
    made.set_asleep("us-east/b", True)
    assert losses(made.backends.values(), {"us-east/a"}, {}, 0.0).models == ("n",)
    assert losses(made.backends.values(), {"us-east/a", "us-east/b"}, {}, 0.0).models == ("m", "n")
    made.set_draining("us-east/b", True)
    assert losses(made.backends.values(), {"us-east/a"}, {}, 0.0).models == ("m", "n"), "nothing wakes it now"


def test_the_last_of_a_model() -> None:
    found = losses(fleet().backends.values(), {"us-east/a"}, PLANS, 0.0)
    assert (found.models, found.jurisdictions, found.plans) == (("n",), (), {"both": ("n",)})


def test_one_whose_probe_fails_replaces_nobody_before_it_is_ejected() -> None:
    made = fleet([SPECS[1], SPECS[2]])
    made.observe_health("us-east/a", False, 0.0)
    assert made.backends["us-east/a"].usable(0.0), "it takes several probes to eject it"
    assert losses(made.backends.values(), {"us-east/b"}, {}, 0.0).models == ("m",)
    assert losses(made.backends.values(), {"us-east/a"}, {}, 0.0).models == ("n",)


def test_what_is_drained_replaces_nobody_and_is_not_lost_again() -> None:
    made = fleet()
    made.set_draining("eu-central", True)
    made.set_draining("us-east/b", True)
    found = losses(made.backends.values(), {"us-east/a"}, PLANS, 0.0)
    assert (found.models, found.jurisdictions) == (("m", "n"), ("us",))
    assert not losses(made.backends.values(), {"us-east/b"}, PLANS, 0.0).any


def test_more_requests_than_the_others_have_room_for() -> None:
    made = fleet([SPECS[1], SPECS[2]])
    made.backends["us-east/a"].inflight = 3
    made.backends["us-east/b"].inflight = 2
    found = losses(made.backends.values(), {"us-east/b"}, {}, 0.0)
    assert (found.inflight, found.room, found.any) == (2, 1, True)
    made.backends["us-east/a"].inflight = 2
    assert not losses(made.backends.values(), {"us-east/b"}, {}, 0.0).any


_NAMES = [f"{region}/{short}" for region in ("eu", "us", "ap") for short in "ab"]


@given(
    served=st.lists(st.sets(st.sampled_from("mno"), min_size=1), min_size=6, max_size=6),
    drained=st.sets(st.sampled_from(_NAMES)),
    gone=st.sets(st.sampled_from(_NAMES)),
)
def test_a_loss_is_what_could_be_served_before_and_cannot_after(
    served: list[set[str]], drained: set[str], gone: set[str]
) -> None:
    specs = [
        BackendSpec(name, RegionSpec(name[:2], name[:2]), f"http://h:{n}", models=tuple(sorted(models)))
        for n, (name, models) in enumerate(zip(_NAMES, served, strict=True), 1)
    ]
    made = fleet(specs)
    for name in drained:
        made.set_draining(name, True)
    found = losses(made.backends.values(), gone, {"eu": ("eu",)}, 0.0)
    models = dict(zip(_NAMES, served, strict=True))
    before, after = set(_NAMES) - drained, set(_NAMES) - drained - gone
    assert set(found.models) == {m for n in before for m in models[n]} - {m for n in after for m in models[n]}
    assert set(found.jurisdictions) == {n[:2] for n in before} - {n[:2] for n in after}
    lost = {m for n in before if n[:2] == "eu" for m in models[n]} - {
        m for n in after if n[:2] == "eu" for m in models[n]
    }
    assert set(found.plans.get("eu", ())) == lost
