"""The answers of several workers as one: added, the latest or the worst, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from router.config import Config, Region, RouterSection, fingerprint
from router.core.types import BackendSpec, RegionSpec
from router.telemetry.stats import Tally, Window
from router.workers.admin import merge
from router.workers.orders import Orders, share_of


def view(**over: Any) -> dict[str, Any]:
    document = {
        "name": "us/a",
        "models": ["m"],
        "state": "healthy",
        "draining": False,
        "asleep": False,
        "strained": {},
        "leaving": None,
        "burning_in_s": None,
        "usable": True,
        "since": None,
        "since_s": None,
        "why": None,
        "who": None,
        "rtt_s": 0.1,
        "rtt_floor_s": 0.1,
        "rtt_age_s": 1.0,
        "inflight": 1,
        "max_inflight": 4,
        "queue": 2,
        "running": 3,
        "kv_ratio": 0.5,
        "load_age_s": 1.0,
        "uncached_tokens": 10,
        "output_tokens_per_s": 5.0,
        "prefill_tokens_per_s": 100.0,
        "ttft_error_s": None,
        "requests_total": 7,
        "failures_total": 1,
        "continues": None,
        "ready": True,
        "last_error": None,
    }
    return document | over


def test_own_counts_are_added_and_the_latest_news_holds() -> None:
    merged = merge.backend(
        [view(), view(inflight=2, rtt_s=0.3, rtt_age_s=0.2, queue=9, load_age_s=0.1, prefill_tokens_per_s=None)]
    )
    assert (merged["inflight"], merged["max_inflight"], merged["requests_total"]) == (3, 8, 14)
    assert (merged["rtt_s"], merged["queue"], merged["load_age_s"]) == (0.3, 9, 0.1)
    assert (merged["prefill_tokens_per_s"], merged["ttft_error_s"]) == (100.0, None)


def test_news_of_unknown_age_never_hides_what_another_worker_knows() -> None:
    fresh = view(rtt_s=None, rtt_floor_s=None, rtt_age_s=None, queue=None, running=None, kv_ratio=None, load_age_s=None)
    merged = merge.backend([fresh, view()])
    assert (merged["rtt_s"], merged["queue"]) == (0.1, 2)


@pytest.mark.parametrize(
    ("states", "worst"),
    [
        (("healthy", "ejected"), "ejected"),
        (("probation", "healthy"), "probation"),
        (("suspect", "probation"), "suspect"),
        (("healthy", "healthy"), "healthy"),
    ],
)
def test_a_backend_is_in_the_worst_state_that_a_worker_sees(states: tuple[str, ...], worst: str) -> None:
    merged = merge.backend([view(state=state, usable=state != "ejected") for state in states])
    assert (merged["state"], merged["usable"]) == (worst, True)


@pytest.mark.parametrize(
    ("words", "least"),
    [(("ids", "text"), "text"), (("ids", "unknown"), "unknown"), (("no", "ids"), "no"), (("ids", "ids"), "ids")],
)
def test_what_the_worker_says_that_believes_least_holds(words: tuple[str, ...], least: str) -> None:
    merged = merge.backend([view(), *(view(continues={"how": word}) for word in words)])
    assert merged["continues"] == {"how": least}


def test_a_region_is_told_from_its_merged_backends() -> None:
    place = {"name": "us", "jurisdiction": "us", "location": None}
    one = place | {"backends": [view(), view(name="us/b", usable=False, state="ejected")]}
    two = place | {"backends": [view(), view(name="us/b", usable=False, state="ejected")]}
    (merged,) = merge.regions([[one], [two]])
    assert (merged["state"], merged["inflight"], len(merged["backends"])) == ("degraded", 4, 2)
    assert merged["queue"] == 4, "what an engine says is said once"


def test_requests_come_newest_first_whoever_had_them() -> None:
    def entry(arrival_s: float, duration_s: float) -> dict[str, float]:
        return {"arrival_s": arrival_s, "duration_s": duration_s}

    lists = [[entry(5, 1), entry(1, 1)], [entry(4, 4), entry(3, 0)]]
    assert [r["arrival_s"] for r in merge.requests(lists, 3)] == [4, 5, 3]


PAGE = """\
# HELP router_requests_total Requests.
# TYPE router_requests_total counter
router_requests_total{model="a b"} %d
# HELP router_queue_length Waiting.
# TYPE router_queue_length gauge
router_queue_length %d
# HELP router_backend_usable Usable.
# TYPE router_backend_usable gauge
router_backend_usable{region="us",backend="us/a"} %d
# HELP router_store_up Up.
# TYPE router_store_up gauge
router_store_up %d
"""


def test_counters_keep_their_worker_and_common_gauges_are_one() -> None:
    page = merge.metrics({0: PAGE % (5, 1, 0, 1), 1: PAGE % (7, 2, 1, 0)})
    lines = page.splitlines()
    assert 'router_requests_total{worker="0",model="a b"} 5' in lines
    assert 'router_requests_total{worker="1",model="a b"} 7' in lines
    assert 'router_queue_length{worker="1"} 2' in lines
    assert 'router_backend_usable{region="us",backend="us/a"} 1.0' in lines
    assert "router_store_up 0.0" in lines
    assert sum(line.startswith("# TYPE") for line in lines) == 4
    families = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    at = {name: [i for i, line in enumerate(lines) if line.startswith(name)] for name in families}
    assert all(rows == list(range(rows[0], rows[0] + len(rows))) for rows in at.values()), "a family is in one place"


def test_windows_are_merged_from_counts_so_that_percentiles_stay_right() -> None:
    key = ("us", "m", "t", "ok")
    one = Window(60, 60, {key: Tally(requests=99, ttft={0: 99})})
    one.merge(Window(60, 5, {key: Tally(requests=1, errors=1, ttft={100: 1}), ("", "m", "t", "refused"): Tally(2)}))
    document = one.document()
    assert (document["requests"], document["errors"]) == (102, 1)
    assert document["requests_per_s"] == 102 / 60
    assert document["ttft_s"]["p50"] < 1.1
    assert document["ttft_s"]["p99"] < 1.1
    assert {g["name"]: g["requests"] for g in document["by_region"]} == {"us": 100, None: 2}


def config(max_inflight: int, workers: int) -> Config:
    spec = BackendSpec(name="us/a", region=RegionSpec("us"), url="http://127.0.0.1:1", max_inflight=max_inflight)
    return Config(router=RouterSection(workers=workers), regions=(Region(RegionSpec("us"), (spec,)),))


@pytest.mark.parametrize(("max_inflight", "workers", "parts"), [(256, 2, [128, 128]), (10, 4, [3, 3, 2, 2])])
def test_the_workers_share_max_inflight(max_inflight: int, workers: int, parts: list[int]) -> None:
    whole = config(max_inflight, workers)
    shares = [share_of(whole, worker, redis="unix:///s") for worker in range(workers)]
    assert [s.backends[0].max_inflight for s in shares] == parts
    assert {s.store.redis for s in shares} == {"unix:///s"}
    assert {fingerprint(s) for s in shares} == {fingerprint(whole)}, "it is the file's, as other routers compare it"


def test_every_worker_may_send_something() -> None:
    assert [share_of(config(1, 3), w, redis=None).backends[0].max_inflight for w in range(3)] == [1, 1, 1]


def test_orders_survive_the_way_to_the_worker() -> None:
    orders = Orders(1, config(5, 2), 3, True, 4, 5, 6, 2)
    line = orders.encode()
    assert line.count(b"\n") == 1
    assert Orders.decode(line) == orders


def test_a_model_is_strained_since_the_first_worker_saw_it() -> None:
    views = [view(strained={"m": 20.0}), view(strained={"m": 10.0, "n": 30.0}), view()]
    assert merge.backend(views)["strained"] == {"m": 10.0, "n": 30.0}
    seen = {"model": "m", "variants": ["s"], "target_ttft_s": 1.0}
    answers = [{"data": [], "strained": [seen | {"since_s": at_s, "requests": 3}]} for at_s in (20.0, 10.0)]
    assert merge.capacity(answers)["strained"] == [seen | {"since_s": 10.0, "requests": 6}]


def test_of_what_is_needed_the_worker_that_sees_most_is_right() -> None:
    def group(region: str, needed: int | None, waiting: float) -> dict[str, Any]:
        return {"region": region, "model": "m", "needed": needed, "there": 2, "waiting": waiting, "idle_usd_hour": 1.0}

    one = {"data": [group("us", 2, 3.0), group("eu", None, 0.0)]}
    other = {"data": [group("us", 4, 1.0)]}
    merged = merge.capacity([one, other])
    assert [(g["region"], g["needed"], g["waiting"]) for g in merged["data"]] == [("us", 4, 3.0), ("eu", None, 0.0)]
    assert merged["idle_usd_hour"] == 2.0
    assert merge.capacity([]) == {"data": [], "idle_usd_hour": 0, "strained": []}


def test_what_was_learned_is_that_of_the_worker_that_saw_most() -> None:
    def told(samples: float, rtt_s: float) -> dict[str, Any]:
        lane = {"m": {"samples": samples, "token_s": rtt_s}}
        return {"router": {"name": "edge"}, "backends": [{"name": "a/a", "rtt_s": rtt_s, "learned": lane}]}

    merged = merge.learned([told(3.0, 0.1), told(90.0, 0.2), told(0.0, 0.3)])
    assert merged["router"] == {"name": "edge"}
    assert [b["rtt_s"] for b in merged["backends"]] == [0.2]


def test_requests_in_flight_of_workers_are_one_list() -> None:
    answers = [
        {"data": [{"request_id": "a", "age_s": 3.0}, {"request_id": "b", "age_s": 1.0}], "count": 7},
        {"data": [{"request_id": "c", "age_s": 2.0}], "count": 1},
    ]
    merged = merge.in_flight(answers, 2)
    assert [r["request_id"] for r in merged["data"]] == ["a", "c"]
    assert merged["count"] == 8
