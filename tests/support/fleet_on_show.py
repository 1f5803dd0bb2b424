"""A fleet as the admin API tells of it, always the same: for pictures and for tests of what is drawn of it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

#: The moment at which everything below is true: 2026-11-30 14:13:20 UTC.
NOW_S = 1_796_048_000.0

#: name -> jurisdiction, location
_PLACES: dict[str, tuple[str, tuple[float, float]]] = {
    "us-east": ("us", (38.9, -77.0)),
    "eu-central": ("eu", (50.1, 8.7)),
    "ap-northeast": ("jp", (35.7, 139.7)),
    "us-west": ("us", (45.5, -122.7)),
    "sa-east": ("br", (-23.5, -46.6)),
    "ap-south": ("in", (19.1, 72.9)),
    "ap-southeast": ("au", (-33.9, 151.2)),
    "eu-north": ("eu", (59.3, 18.1)),
    "eu-west": ("eu", (53.3, -6.3)),
    "af-south": ("za", (-33.9, 18.4)),
}


def backend(name: str, **changes: Any) -> Json:
    region, number = name.partition("/")[0], sum(map(ord, name)) % 17
    known: Json = {
        "name": name, "region": region, "url": f"http://10.0.{number}.1:8000", "engine": "vllm",
        "source": {"name": "file", "says": "ready", "kind": "file", "facts": {}, "lease_s": None,
                   "heard_s": None, "since_s": None},
        "models": ["llama-3.1-8b"], "state": "healthy", "draining": False, "drain": None, "asleep": False, "strained": {},
        "ready": True, "leaving": None, "burning_in_s": None, "usable": True, "since": None,
        "since_s": NOW_S - 7200.0 - 60 * number, "why": None, "who": None, "rtt_s": 0.001 + number / 1000,
        "rtt_floor_s": 0.001, "rtt_age_s": 0.4, "inflight": 3 + number, "inflight_peers": 0, "max_inflight": 256,
        "queue": number // 6, "running": 3 + number, "kv_ratio": 0.3 + number / 40, "load_age_s": 0.2,
        "uncached_tokens": 100, "output_tokens_per_s": 150.0 + 20 * number, "prefill_tokens_per_s": 9000.0,
        "ttft_error_s": 0.004, "cost_usd_hour": 2.5, "requests_total": 1200 + number, "failures_total": number // 5,
        "continues": {"how": "ids", "reason": "goes on after its own tokens", "model": "m", "age_s": 3.0},
        "last_error": None,
    }  # fmt: skip
    return known | changes


def gpu(busy_ratio: float, state: str, reason: str) -> Json:
    return {"gpus": 4, "busy_ratio": busy_ratio, "memory_ratio": 0.81, "power_w": 1900.0,
            "idle_usd_hour": 2.5 * (1 - busy_ratio), "state": state, "reason": f"{busy_ratio:.0%} busy{reason}",
            "age_s": 2.0, "problem": None}  # fmt: skip


def with_gpus() -> list[Json]:
    """The small fleet with pages of GPUs; that of one backend cannot be read."""
    found = small_fleet()
    words = [
        gpu(0.98, "saturated", ", and 12 requests wait in the engine"),
        gpu(0.12, "starved", " while 12 requests wait: something before the GPUs is the bottleneck"),
        gpu(0.64, "working", ""),
        dict.fromkeys(gpu(0.0, "", "")) | {"problem": "connection refused"},
        gpu(0.01, "idle", ", and hardly any requests come"),
    ]
    for b, known in zip((b for r in found for b in r["backends"]), words, strict=False):
        b["gpu"] = known
    return found


def dead(name: str, ago_s: float, why: str) -> Json:
    return backend(
        name, state="ejected", usable=False, since_s=NOW_S - ago_s, why=why, last_error=why, inflight=0,
        output_tokens_per_s=0.0, kv_ratio=None, queue=None, load_age_s=ago_s,
    )  # fmt: skip


def region(name: str, members: list[Json], place: tuple[str, tuple[float, float]]) -> Json:
    usable = [b for b in members if b["usable"]]
    lost = [b for b in members if not b["usable"]]
    state = "ok" if len(usable) == len(members) else "degraded" if usable else "down"
    first = min(lost or members, key=lambda b: b["since_s"])
    return {
        "name": name, "jurisdiction": place[0], "location": list(place[1]), "state": state,
        "draining": False, "leaving": None, "since": None, "since_s": first["since_s"],
        "why": first["why"] if state == "down" else f"{first['name']}: {first['why']}" if lost else None, "who": None,
        "rtt_s": min(b["rtt_s"] for b in members), "inflight": sum(b["inflight"] for b in members),
        "queue": sum(b["queue"] or 0 for b in members), "kv_ratio": usable[0]["kv_ratio"] if usable else None,
        "output_tokens_per_s": sum(b["output_tokens_per_s"] for b in members), "age_s": 0.2, "backends": members,
    }  # fmt: skip


def small_fleet() -> list[Json]:
    """Three regions; of one a backend is down."""
    names = list(_PLACES)[:3]
    found = [region(n, [backend(f"{n}/{letter}") for letter in "ab"], _PLACES[n]) for n in names]
    found[1] = region(
        "eu-central", [backend("eu-central/a"), dead("eu-central/b", 252, "refused")], _PLACES["eu-central"]
    )
    return found


def large_fleet(count: int = 30) -> list[Json]:
    """Many regions, three of them near each other at each place. Of the last ones one is down."""
    found = []
    for number in range(count):
        about = list(_PLACES)[number % len(_PLACES)]
        law, (north, east) = _PLACES[about]
        name = about if number < len(_PLACES) else f"{about}-{number // len(_PLACES) + 1}"
        near = (north - 3.0 * (number // len(_PLACES)), east + 4.0 * (number // len(_PLACES)))
        members = [backend(f"{name}/{letter}") for letter in "ab"]
        if number in (count - 2, count - 5):
            members = [dead(f"{name}/{letter}", 30.0 * number, "connection refused") for letter in "ab"]
        found.append(region(name, members, (law, near)))
    return found


def tally(number: int, name: str | None = None) -> Json:
    told: Json = {
        "requests": 40 * number + 12, "requests_per_s": 1.3 * number + 0.4, "errors": number % 3,
        "prompt_tokens": 9000 * number + 100, "output_tokens": 4000 * number + 50,
        "output_tokens_per_s": 133.0 * number + 2,
        "ttft_s": {"p50": 0.06 + number / 50, "p90": 0.2 + number / 20, "p99": 0.4 + number / 10},
    }  # fmt: skip
    return told if name is None else {"name": name} | told


def summary(number: int, **changes: Any) -> Json:
    regions = list(_PLACES)[:3]
    at = regions[number % 3]
    return {
        "request_id": f"req-5f0c{number:02x}", "arrival_s": NOW_S - 2.0 - 0.7 * number, "tenant": "acme",
        "key_id": "key_1", "method": "POST", "path": "/v1/chat/completions", "model": "llama-3.1-8b",
        "served_model": "llama-3.1-8b", "stream": True, "status": 200, "error": None, "cause": "ok", "policy": "ttft",
        "region": at, "backend": f"{at}/a", "attempts": 1, "ttft_s": 0.05 + number / 60, "duration_s": 1.0 + number / 9,
        "wait_s": 0.0, "prompt_tokens": 100 + 7 * number, "output_tokens": 51 + number, "cached_tokens": 64,
        "router": "edge-us-1" if number % 2 else "edge-eu-1",
    } | changes  # fmt: skip


def live(number: int, **changes: Any) -> Json:
    return {
        "request_id": f"req-6a1b{number:02x}", "arrival_s": NOW_S - 41.0 + 9 * number, "age_s": 41.0 - 9 * number,
        "phase": "stream", "tenant": "acme", "key_id": "key_2", "method": "POST", "path": "/v1/chat/completions",
        "model": "llama-3.1-8b", "served_model": "llama-3.1-8b", "stream": True, "region": "us-east",
        "backend": "us-east/b", "hedge": None, "attempts": 1, "at_backend_s": 40.9 - 9 * number,
        "predicted_ttft_s": 0.08, "ttft_s": 0.09, "wait_s": 0.0, "prompt_tokens": 812, "output_tokens": 2210 - 400 * number,
        "router": "edge-us-1",
    } | changes  # fmt: skip


def event(number: int, kind: str, subject: str, before: str | None, after: str, why: str, who: str | None) -> Json:
    return {
        "id": f"e{number}", "at_s": NOW_S - 40.0 * number - 3, "at": "", "kind": kind, "subject": subject,
        "from": before, "to": after, "why": why, "who": who, "router": "edge-us-1",
    }  # fmt: skip


_KEYS = (
    ("key_1", "search", "acme", "gold"),
    ("key_2", "support", "acme", "gold"),
    ("key_3", "batch", "umbrella", "default"),
)


def candidate(name: str, rtt_s: float, queue_s: float, *, chosen: bool = False, struck: str | None = None) -> Json:
    terms = {"rtt": rtt_s, "overhead": 0.012, "queue": queue_s, "prefill": 0.02, "pressure": 0.004}
    cost_s = None if struck else sum(terms.values())
    return {"backend": name, "cost_s": cost_s, "terms": {} if struck else terms, "struck": struck, "chosen": chosen}


def decision() -> Json:
    return {
        "policy": "ttft",
        "backend": "us-east/a",
        "candidates": [
            candidate("us-east/a", 0.001, 0.0, chosen=True),
            candidate("us-east/b", 0.001, 0.11),
            candidate("eu-central/a", 0.092, 0.0),
            candidate("eu-central/b", 0.0, 0.0, struck="ejected"),
        ],
    }


def record() -> Json:
    """Of the first request of the list: refused once, then answered elsewhere."""
    first: Json = {
        "backend": "us-east/b", "region": "us-east", "started_s": 0.001, "outcome": "unreachable", "ttft_s": None,
        "predicted_ttft_s": 0.021, "status": None, "kind": "first", "duration_s": 0.002, "detail": "refused",
        "fault": None, "connect_s": None, "first_byte_s": None,
    }  # fmt: skip
    second = first | {
        "backend": "us-east/a", "started_s": 0.004, "outcome": "ok", "ttft_s": 0.08, "status": 200, "kind": "retry",
        "duration_s": 0.99, "detail": None, "connect_s": 0.002, "first_byte_s": 0.03,
    }  # fmt: skip
    return summary(0, attempts=[first, second]) | {
        "plan": "gold", "priority": "standard", "residency": ["us"], "usage_reported": True, "client_region": "us-west",
        "admitted_s": 0.001, "first_byte_s": 0.084, "decision": decision(), "body_bytes": 420, "prefix_blocks": 2,
    }  # fmt: skip


def _requests() -> tuple[list[Json], list[Json]]:
    """Those that ended, and those on their way."""
    requests = [summary(n) for n in range(24)]
    requests[3] |= {"status": 502, "error": "upstream_error", "cause": "server_error", "ttft_s": None, "attempts": 3}
    requests[7] |= {"tenant": "umbrella", "key_id": "key_3", "status": 429, "error": "quota_exhausted", "cause": "refused",
                    "backend": None, "region": None, "ttft_s": None, "duration_s": 0.0004, "output_tokens": 0}  # fmt: skip
    on_their_way = [
        live(0),
        live(1),
        live(3, phase="first token", ttft_s=None, output_tokens=0, backend="eu-central/a"),
    ]
    on_their_way[2] |= {"region": "eu-central", "at_backend_s": 13.9}
    on_their_way.append(
        live(4, phase="place", ttft_s=None, output_tokens=0, backend=None, region=None, at_backend_s=None)
    )
    return requests, on_their_way


def _capacity() -> list[Json]:
    group = {"region": "us-east", "model": "llama-3.1-8b", "known": 2, "there": 2, "needed": 3, "needed_now": 3,
             "reason": "slow", "meaning": "first tokens come too late", "short": 1, "spare": 0, "min": 1, "max": None,
             "target_ttft_s": 0.5, "kept_ttft_s": 0.5, "predicted_ttft_s_p95": 0.74, "requests_per_s": 6.2, "inflight": 14,
             "waiting": 2, "idle_usd_hour": 0.0, "engines": []}  # fmt: skip
    calm = group | {"region": "eu-central", "known": 2, "there": 1, "needed": 1, "short": 0, "predicted_ttft_s_p95": 0.3,
                    "meaning": None, "idle_usd_hour": 1.25, "requests_per_s": 2.2, "waiting": 0, "inflight": 5}  # fmt: skip
    return [group, calm]


def answers(regions: list[Json] | None = None) -> dict[tuple[str, str], Any]:
    """Everything that ``router top`` asks for, as ``StandIn`` answers it."""
    regions = small_fleet() if regions is None else regions
    backends = [b for r in regions for b in r["backends"]]
    fleet = {"scope": "all routers", "routers": ["edge-us-1", "edge-eu-1"], "silent": []}
    usable = sum(b["usable"] for b in backends)
    status = {
        "router": {"name": "edge-us-1", "region": "us-east", "version": "0.1.0", "uptime_s": 7262.0, "workers": 1,
                   "policy": "ttft", "config_generation": 3, "config_source": "/etc/meridian/regions.toml",
                   "config_hash": "x", "ready": True, "not_ready": None, "config_refused": None},
        "store": {"kind": "redis", "state": "up", "rtt_s": 0.0004, "notice": None},
        "traffic": {"inflight": sum(b["inflight"] for b in backends), "queued": 2, "requests_per_s": 12.3,
                    "output_tokens_per_s": 812.0, "ttft_s_p50": 0.084, "ttft_s_p99": 0.61, "error_ratio": 0.012},
        "regions": {"total": len(regions), "usable": sum(r["state"] != "down" for r in regions)},
        "backends": {"total": len(backends), "usable": usable, "names": [b["name"] for b in backends]},
        "differences": [], "fleet": fleet,
    }  # fmt: skip
    requests, on_their_way = _requests()
    events = [
        event(1, "health", "eu-central/b", "healthy", "ejected", "refused", None),
        event(2, "drain", "us-east/b", "draining", "resumed", "", "anna"),
        event(3, "config", "regions.toml", "generation 2", "generation 3", "policy", "anna"),
    ]
    keys = [{"id": id_, "name": name, "tenant": tenant, "plan": plan, "created_s": NOW_S - 9e5, "revoked": False,
             "plan_missing": False, "expires": None, "expires_s": None, "expired": False, "older_secrets": 0,
             "overlap_until_s": None} for id_, name, tenant, plan in _KEYS]  # fmt: skip
    limit = {"limit": "requests_per_minute", "max": 600, "plan_max": 600, "used": 240, "remaining": 360, "reset_s": 12.0,
             "scope": "key"}  # fmt: skip
    quotas = [{"account": k["id"], "scope": "key", "name": k["name"], "key": {"id": k["id"], "name": k["name"]},
               "plan": k["plan"], "tenant": k["tenant"], "limits": [limit | {"used": 240 + 150 * n}],
               "last_minute": {"requests": 200 + n, "tokens": 52_000, "refused": 4 * (n == 2)}}
              for n, k in enumerate(keys)]  # fmt: skip
    key_use = [{"key": k["id"], "cost_usd": 1.31 * (n + 1)} | tally(30 * n + 9) for n, k in enumerate(keys)]
    v1 = "/admin/v1"
    return {
        ("GET", f"{v1}/status"): status,
        ("GET", f"{v1}/regions"): {"data": regions, "fleet": fleet},
        ("GET", f"{v1}/stats"): tally(9) | {"window_s": 30.0, "by_model": [], "by_tenant": [], "by_cause": [], "by_region": [
            tally(n % 7 + 1, r["name"]) for n, r in enumerate(regions)]},
        ("GET", f"{v1}/requests"): {"data": requests, "matching": 24, "fleet": fleet},
        ("GET", f"{v1}/requests/in-flight"): {"data": on_their_way, "count": 4, "fleet": fleet},
        ("GET", f"{v1}/requests/req-5f0c00"): record(),
        ("GET", f"{v1}/events"): {"data": events},
        ("GET", f"{v1}/routers"): {"data": [{"name": "edge-us-1", "region": "us-east"},
                                            {"name": "edge-eu-1", "region": "eu-central"}]},
        ("GET", f"{v1}/capacity"): {"data": _capacity(), "idle_usd_hour": 1.25},
        ("GET", f"{v1}/usage"): {"data": [*key_use, *({"backend": b["name"], "cost_usd": 0.1} | tally(n % 5)
                                                      for n, b in enumerate(backends))]},
        ("GET", f"{v1}/keys"): {"data": keys},
        ("GET", f"{v1}/quotas"): {"data": quotas},
        ("POST", f"{v1}/explain"): {"decision": decision()},
        ("GET", f"{v1}/regions/us-east/losses"): {
            "of": "us-east", "backends": ["us-east/a", "us-east/b"], "models": [], "jurisdictions": ["us"], "plans": [
                {"plan": "gold", "models": ["llama-3.1-8b"]}], "share": 0.41, "requests": 230, "inflight": 14, "room": 500,
            "loses": True},
    }  # fmt: skip
