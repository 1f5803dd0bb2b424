"""A dry run: where would this request go? The very steps of the lifecycle, up to the decision, with nothing counted."""

from __future__ import annotations

from typing import Any

import orjson

from router import clock
from router.core.course import Course
from router.core.elsewhere import fleet_seen_from
from router.core.explain import explain
from router.core.suggest import no_such
from router.core.types import Rng
from router.errors import RouterError
from router.gateway import ingress
from router.gateway.auth import anonymous_key
from router.gateway.envelope import envelope_of
from router.gateway.lifecycle import Lifecycle
from router.wire.head import RequestHead

_HEADERS = {"region": b"x-router-region", "residency": b"x-router-residency", "priority": b"x-router-priority"}


class Explainer:
    """Answers the body of ``POST /admin/v1/explain``: ``{"model", "prompt" | "messages", …}``.

    ``"from"`` names a region: the answer is that of a router that stands there, as far as this one can tell.
    """

    def __init__(self, lifecycle: Lifecycle, rng: Rng) -> None:
        self._lifecycle = lifecycle
        self._rng = rng

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        """``{"decision": …}`` as core.explain gives it. Raises RouterError (invalid_request, unknown_model)."""
        life, settings = self._lifecycle, self._lifecycle.force.settings
        policy_name = body.get("policy") or settings.config.router.policy
        policy = settings.policies.get(policy_name)
        if policy is None:
            raise RouterError("invalid_request", no_such("policy", str(policy_name), settings.policies), param="policy")
        headers = {header: str(body[name]).encode() for name, header in _HEADERS.items() if body.get(name)}
        path = b"/v1/completions" if "prompt" in body else b"/v1/chat/completions"
        asked = {name: body[name] for name in ("model", "prompt", "messages", "tools", "max_tokens") if name in body}
        head = RequestHead(b"POST", path, True, headers, True)
        ask = ingress.read(envelope_of(head), orjson.dumps({"stream": True, **asked}), settings.config.tokens)
        need = life.demand.need_of(anonymous_key(settings.config.plans["default"]), ask, "explain", clock.monotonic_s())
        place = body.get("from")
        regions = {b.region for b in life.fleet.backends.values()}
        for name in ("from", "region"):
            if body.get(name) is not None and body[name] not in regions:
                raise RouterError("invalid_request", no_such("region", str(body[name]), regions), param=name)
        now_s = clock.monotonic_s()
        fleet = life.fleet if place is None else fleet_seen_from(life.fleet, place, now_s)
        models = settings.aliases.route(ask.model, self._rng)
        alias, degraded = settings.aliases.get(ask.model), None
        if alias is not None and alias.degrade:
            found = life.demand.smaller(need, alias, now_s, dry_run=True)
            plans = sorted(name for name, plan in settings.config.plans.items() if plan.degrade)
            degraded = None if found is None else {"model": found.model, "why": str(found), "plans": plans}
            if found is not None and "default" in plans:
                models = found.before(models)
        course = Course(fleet, policy, need, models)
        decision = course.next(now_s, self._rng, dry_run=True)
        return {"decision": {"model": need.model, "policy": policy.name, "degraded": degraded, **explain(decision)}}
