"""The journal of a router, and what it has learned, out of a simulated world: what really ran is known exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from router.core.knowledge import knowledge_of
from sim.profiles import PROFILES, Profile
from sim.traces import Trace
from sim.workloads import Chats, conversations
from sim.world import Flow, World
from sim.world_plan import WorldPlan, built_in_world

#: of the clock on the wall
BEGAN_S = 1_790_000_000.0
CHATS = Chats(instruction_tokens=320, turn_tokens=200.0, answer_tokens=60.0, think_s=3.0)


def small_plan(profile: str | Profile = "a100-llama-3.1-8b", backends: int = 1) -> WorldPlan:
    """Three regions, one router in the first of them."""
    plan = built_in_world(profile, backends=backends)
    return replace(plan, routers=(plan.regions[0],))


def slow_profile() -> Profile:
    """An engine that is busy with little traffic."""
    return replace(PROFILES["demo"], name="slow", intake_s=0.01, prefill_token_s=0.0004, batch_tokens=4096)


def traffic(per_s: float = 4.0, duration_s: float = 100.0, seed: int = 1) -> Trace:
    return conversations({"us-east": per_s}, duration_s, seed=seed, chats=CHATS)


def record_of(flow: Flow) -> dict[str, Any]:
    """As the journal's file has it."""
    arrival = flow.arrival
    ended_s = flow.ended_s or flow.started_s
    attempt = {
        "backend": flow.asked[-1] if flow.asked else "",
        "region": flow.region,
        "started_s": 0.0 if flow.waited_s is None else flow.waited_s - flow.started_s,
        "outcome": "ok" if flow.error is None else flow.error,
        "ttft_s": flow.ttft_s,
        "duration_s": ended_s - flow.started_s,
        "connect_s": None,
    }
    return {
        "request_id": flow.request.request_id,
        "arrival_s": BEGAN_S + flow.started_s,
        "model": flow.request.model,
        "served_model": flow.request.model,
        "policy": "ttft",
        "tenant": arrival.tenant,
        "residency": None,
        "error": flow.error,
        "limit": None,
        "attempts": [attempt] * len(flow.asked),
        "ttft_s": flow.ttft_s,
        "duration_s": ended_s - flow.started_s,
        "wait_s": 0.0,
        "prompt_tokens": arrival.prompt_tokens,
        "output_tokens": arrival.output_tokens if flow.error is None else 0,
        "cached_tokens": flow.cached_tokens,
        "prefix_blocks": list(arrival.blocks),
        "tokens_per_block": 64.0,
    }


def lived(plan: WorldPlan, trace: Trace, policy: str = "ttft", seed: int = 7) -> tuple[dict[str, Any], list[Any]]:
    """(what its router has learned, its journal) after the trace was played."""
    world, flows = played(plan, trace, policy, seed)
    site = next(iter(world.sites.values()))
    learned = knowledge_of(site.fleet, world.now_s)
    learned |= {"router": {"name": "edge", "version": "0", "policy": policy, "config_hash": "x"}, "at_s": BEGAN_S}
    return learned, [record_of(flow) for flow in flows]


def played(plan: WorldPlan, trace: Trace, policy: str = "ttft", seed: int = 7) -> tuple[World, Sequence[Flow]]:
    world = World(plan, policy, block_tokens=trace.block_tokens, seed=seed)
    return world, world.run(trace)
