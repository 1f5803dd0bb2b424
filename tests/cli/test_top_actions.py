"""Drain, resume and notice: asked about first, then done."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli.context import Context
from cli.errors import StatusError
from cli.top import actions
from tests.support.admin_stand_in import StandIn
from tests.support.fleet_on_show import answers

APPLIED = {"applied": "all routers", "shared": True, "inflight": 3, "leaving": None}


@pytest.fixture
def admin() -> Iterator[StandIn]:
    with StandIn(answers()) as stand_in:
        yield stand_in


def context(admin: StandIn) -> Context:
    return Context(env={}, admin_url=admin.url)


def test_the_question_says_what_would_be_lost(admin: StandIn) -> None:
    asked = actions.question(context(admin), "drain us-east", "us-east")
    assert asked.what == "drain us-east"
    text = asked.text
    assert "no other usable backend is in the jurisdiction us" in text
    assert "plan gold" in text
    assert "41 %" in text


def test_without_losses_it_says_so(admin: StandIn) -> None:
    losses = answers()["GET", "/admin/v1/regions/us-east/losses"]
    admin.answers["GET", "/admin/v1/regions/us-east/losses"] = losses | {
        "loses": False,
        "plans": [],
        "jurisdictions": [],
    }
    asked = actions.question(context(admin), "drain us-east", "us-east")
    assert asked.losses == ()
    assert asked.text.startswith("Others can serve everything")
    assert "41 %" in asked.text
    assert actions.harmless("resume x", "It comes back.").text == "It comes back."


def test_doing_it_says_what_has_happened(admin: StandIn) -> None:
    path = "/admin/v1/regions/us-east/"
    admin.answers |= {("POST", f"{path}{verb}"): APPLIED for verb in ("drain", "resume")}
    admin.answers["POST", f"{path}notice"] = APPLIED | {"leaving": {"in_s": 120.0}}
    ctx = context(admin)
    assert actions.SIMPLE["drain"](ctx, "us-east").startswith("us-east gets no new requests (all routers); 3 requests")
    assert actions.SIMPLE["resume"](ctx, "us-east") == "us-east gets requests again (all routers)"
    assert actions.notice(ctx, "us-east", 120.0).startswith("us-east is leaving in 2m 00s (all routers)")
    bodies = [body for method, _, _, body in admin.asked if method == "POST"]
    assert "@" in bodies[0]["by"]
    assert bodies[2]["in_s"] == 120.0


def test_who_may_not_is_told_so(admin: StandIn) -> None:
    refusal = (403, {"error": {"message": "The role read is not enough: operate is needed."}})
    admin.answers["POST", "/admin/v1/backends/us-east/a/drain"] = refusal
    with pytest.raises(StatusError, match="role read is not enough"):
        actions.drain(context(admin), "us-east/a")
