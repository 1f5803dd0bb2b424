"""Finds out what answers at an address that nobody has told anything about: which engine, which models, how far, how
large its KV cache is. For operators, before an address is written into the configuration or when something is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from router.core.traits import TRAITS, Traits
from router.core.types import BackendSpec
from router.observe.client import AskFailedError, EngineClient, ProbeAnswer
from router.observe.engines import knows_load, read_load
from router.observe.exposition import PAGE_BYTES_MAX
from router.observe.prober import MODELS_PATH, model_names

#: An engine with OpenAI's API that tells nothing about itself.
UNTOLD = "openai"
_METRICS_PATH = "/metrics"
_BODY_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Surveyed:
    """``problem``: why no request could be served there, or None. Unknown parts are None or empty. ``date`` is the
    backend's clock as HTTP writes it."""

    problem: str | None = None
    engine: str | None = None
    models: tuple[str, ...] = ()
    rtt_s: float | None = None
    kv_tokens: float | None = None
    tells_load: bool = False
    date: str = ""


async def survey(client: EngineClient, spec: BackendSpec, key: str | None, *, timeout_s: float) -> Surveyed:
    """Ask once what is worth knowing; never raises because of the backend."""
    try:
        answer = await _get(client, spec, MODELS_PATH, key, timeout_s)
        if answer.fresh:  # its time is that of a new connection, too
            answer = await _get(client, spec, MODELS_PATH, key, timeout_s)
    except AskFailedError as error:
        return Surveyed(problem=str(error))
    page = await _page(client, spec, key, timeout_s)
    models = model_names(answer.body) if answer.status == 200 else ()
    engine = engine_of(answer.body if answer.status == 200 else b"", page)
    load = TRAITS[engine].load if engine is not None else None
    sample = read_load(load, page, 0.0) if load is not None else None
    kv_tokens, tells_load = (sample.kv_capacity_tokens, knows_load(sample)) if sample is not None else (None, False)
    problem = _problem(answer, models, engine)
    return Surveyed(problem, engine, models, answer.rtt_s, kv_tokens, tells_load, answer.date)


def engine_of(models: bytes, page: bytes) -> str | None:
    """The engine that such a list of models and such a metrics page are from. None: nothing tells that it is one."""
    for name, traits in TRAITS.items():
        if traits.load is not None and any(metric.encode() in page for metric in _of_it_alone(traits)):
            return name
    owners = _owners(models)
    for name, traits in TRAITS.items():
        if traits.owner is not None and traits.owner in owners:
            return name
    return UNTOLD if model_names(models) else None


def _of_it_alone(traits: Traits) -> frozenset[str]:
    return frozenset() if traits.load is None else traits.load.names


def _owners(models: bytes) -> frozenset[str]:
    try:
        document: Any = orjson.loads(models)
    except orjson.JSONDecodeError:
        return frozenset()
    data = document.get("data") if isinstance(document, dict) else None
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    return frozenset(owner for entry in entries if isinstance(owner := entry.get("owned_by"), str))


def _problem(answer: ProbeAnswer, models: tuple[str, ...], engine: str | None) -> str | None:
    status = answer.status
    if status in (401, 403):
        return f"status {status}: it wants a key, or another one (key_env)"
    if 300 <= status < 400:
        return f"status {status}: the address is redirected elsewhere"
    if status >= 500:
        return f"status {status}"
    if engine is None:
        return f"something answers (status {status}), but lists no models: is it an engine, and is that its address?"
    return None if models or engine != UNTOLD else "it lists no models"


async def _page(client: EngineClient, spec: BackendSpec, key: str | None, timeout_s: float) -> bytes:
    """The metrics page; empty when there is none."""
    try:
        answer = await _get(client, spec, _METRICS_PATH, key, timeout_s, PAGE_BYTES_MAX)
    except AskFailedError:
        return b""
    return answer.body if answer.status == 200 else b""


async def _get(
    client: EngineClient, spec: BackendSpec, path: str, key: str | None, timeout_s: float, most: int = _BODY_BYTES_MAX
) -> ProbeAnswer:
    return await client.ask(spec, path, key=key, timeout_s=timeout_s, bytes_max=most)
