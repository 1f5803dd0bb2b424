"""A context without a world: a router that answers from a table, and a terminal that is a string."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from cli.client import Event, Reply
from cli.context import Context
from cli.errors import CliError, StatusError
from cli.output import Output

Json = dict[str, Any]


@dataclass
class FakeRemote:
    """``Remote`` from a table of (method, path) -> answer. An answer that is an error is raised."""

    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    url: str = "http://router.test"
    calls: list[tuple[str, str, Any]] = field(default_factory=list)

    def _answer(self, method: str, path: str, detail: Any) -> Any:
        self.calls.append((method, path, detail))
        if (method, path) not in self.answers:
            raise StatusError(404, {"message": f"There is no {path}."})
        answer = self.answers[method, path]
        if isinstance(answer, CliError):
            raise answer
        return answer

    def get(self, path: str, **query: object) -> Any:
        return self._answer("GET", path, {k: v for k, v in query.items() if v is not None})

    def post(self, path: str, body: object | None = None) -> Any:
        return self._answer("POST", path, body)

    def patch(self, path: str, body: object) -> Any:
        return self._answer("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self._answer("DELETE", path, None)

    def tail(self, path: str, **query: object) -> Iterator[Event]:
        yield from self._answer("TAIL", path, {k: v for k, v in query.items() if v is not None})

    @contextmanager
    def stream(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Iterator[Reply]:
        yield self._answer("STREAM", path, (body, dict(headers or {})))


@dataclass
class Play:
    """A context, what it asks of the router, and what it printed."""

    context: Context
    admin: FakeRemote
    api: FakeRemote
    stdout: io.StringIO
    stderr: io.StringIO

    @property
    def out(self) -> str:
        return self.stdout.getvalue()

    @property
    def err(self) -> str:
        return self.stderr.getvalue()


@pytest.fixture
def play() -> Play:
    stdout, stderr = io.StringIO(), io.StringIO()
    admin, api = FakeRemote(), FakeRemote(url="http://clients.test")
    context = Context(
        out=Output(stdout, stderr, env={}),
        env={},
        connect=lambda url, token, *, admin: admin_remote if admin else api,
    )
    admin_remote = admin
    return Play(context, admin, api, stdout, stderr)


@pytest.fixture
def backend() -> Callable[..., Json]:
    """A backend as the admin API shows it."""

    def make(name: str = "us-east/a", **changes: Any) -> Json:
        return {
            "name": name,
            "region": name.partition("/")[0],
            "url": "http://10.0.0.11:8000",
            "engine": "vllm",
            "models": ["llama-3.1-8b"],
            "state": "healthy",
            "draining": False,
            "asleep": False,
            "strained": {},
            "leaving": None,
            "burning_in_s": None,
            "usable": True,
            "since": "2023-11-14T22:13:20.000Z",
            "since_s": 1.7e9,
            "why": None,
            "who": None,
            "rtt_s": 0.0012,
            "rtt_floor_s": 0.001,
            "rtt_age_s": 0.4,
            "inflight": 3,
            "max_inflight": 256,
            "queue": 0,
            "running": 3,
            "kv_ratio": 0.42,
            "load_age_s": 0.2,
            "uncached_tokens": 100,
            "output_tokens_per_s": 153.0,
            "prefill_tokens_per_s": 9000.0,
            "ttft_error_s": 0.004,
            "cost_usd_hour": 2.5,
            "requests_total": 1234,
            "failures_total": 2,
            "continues": {"how": "ids", "reason": "goes on after its own tokens", "model": "m", "age_s": 3.0},
            "last_error": None,
        } | changes

    return make


@pytest.fixture
def region(backend: Callable[..., Json]) -> Callable[..., Json]:
    """A region as the admin API shows it."""

    def make(name: str = "us-east", **changes: Any) -> Json:
        return {
            "name": name,
            "jurisdiction": "us",
            "location": [38.9, -77.0],
            "state": "ok",
            "draining": False,
            "asleep": False,
            "leaving": None,
            "since": "2023-11-14T22:13:20.000Z",
            "since_s": 1.7e9,
            "why": None,
            "who": None,
            "rtt_s": 0.0012,
            "inflight": 6,
            "queue": 0,
            "kv_ratio": 0.42,
            "output_tokens_per_s": 306.0,
            "age_s": 0.2,
            "backends": [backend(f"{name}/a"), backend(f"{name}/b")],
        } | changes

    return make


@pytest.fixture
def status() -> Callable[..., Json]:
    def make(*, ready: bool = True) -> Json:
        return {
            "router": {
                "name": "edge-us-1",
                "region": "us-east",
                "version": "0.1.0",
                "uptime_s": 192.0,
                "workers": 1,
                "policy": "ttft",
                "config_generation": 3,
                "config_source": "regions.toml",
                "ready": ready,
            },
            "store": {"kind": "redis", "state": "up", "rtt_s": 0.0004},
            "traffic": {
                "inflight": 5,
                "queued": 0,
                "requests_per_s": 12.3,
                "output_tokens_per_s": 812.0,
                "ttft_s_p50": 0.084,
                "ttft_s_p99": 0.31,
                "error_ratio": 0.0,
            },
            "regions": {"total": 1, "usable": 1},
            "backends": {"total": 2, "usable": 2},
        }

    return make


@pytest.fixture
def decision() -> Json:
    """A decision of the policy ttft: chosen, as good, further away, struck."""

    def candidate(backend: str, rtt_s: float, queue_s: float, *, chosen: bool = False) -> Json:
        terms = {"rtt": rtt_s, "queue": queue_s, "prefill": 0.02, "toll": 0.0}
        return {"backend": backend, "cost_s": sum(terms.values()), "terms": terms, "struck": None, "chosen": chosen}

    return {
        "policy": "ttft",
        "candidates": [
            candidate("us-east/a", 0.001, 0.0, chosen=True),
            candidate("us-east/b", 0.001, 0.0),
            candidate("eu-central/a", 0.092, 0.0),
            candidate("us-east/c", 0.001, 0.2),
            {"backend": "ap-northeast/a", "cost_s": None, "terms": {}, "struck": "draining", "chosen": False},
        ],
    }


@pytest.fixture
def summary() -> Callable[..., Json]:
    """A request as the admin API lists it."""

    def make(**changes: Any) -> Json:
        return {
            "request_id": "req-1",
            "arrival_s": 1_790_000_000.0,
            "tenant": "acme",
            "key_id": "key_1",
            "method": "POST",
            "path": "/v1/chat/completions",
            "model": "llama-3.1-8b",
            "served_model": "llama-3.1-8b",
            "stream": True,
            "status": 200,
            "error": None,
            "cause": "ok",
            "policy": "ttft",
            "region": "us-east",
            "backend": "us-east/a",
            "attempts": 1,
            "ttft_s": 0.084,
            "duration_s": 1.084,
            "wait_s": 0.0,
            "prompt_tokens": 100,
            "output_tokens": 51,
            "cached_tokens": 64,
        } | changes

    return make


@pytest.fixture
def record(summary: Callable[..., Json], decision: Json) -> Json:
    """The whole record of a request that was refused once and then answered elsewhere."""
    attempts = [
        {
            "backend": "us-east/b",
            "region": "us-east",
            "started_s": 0.001,
            "outcome": "unreachable",
            "ttft_s": None,
            "predicted_ttft_s": 0.021,
            "status": None,
            "kind": "first",
            "duration_s": 0.002,
            "detail": "could not be reached",
        },
        {
            "backend": "us-east/a",
            "region": "us-east",
            "started_s": 0.004,
            "outcome": "ok",
            "ttft_s": 0.08,
            "predicted_ttft_s": 0.021,
            "status": 200,
            "kind": "retry",
            "duration_s": 1.08,
            "detail": None,
        },
    ]
    return summary(attempts=attempts) | {
        "plan": "default",
        "priority": "standard",
        "residency": ["us"],
        "usage_reported": True,
        "client_region": "us-west",
        "decision": decision,
    }
