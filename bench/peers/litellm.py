"""LiteLLM's proxy (Python), with a master key; alone, and with Redis for the state its routers share."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from bench import environments
from bench.peers import valkey
from bench.peers.base import MODEL, Gateway, Peer, Site, launch

# Without OpenTelemetry, which its image has, every request tries to import it and fails: 2 ms of CPU.
PINS = ("litellm[proxy]==1.109.1", "opentelemetry-sdk==1.45.2", "opentelemetry-exporter-otlp==1.45.2")
# A model without a price is looked for in the whole price list at every request.
PRICE = {"input_cost_per_token": 1e-7, "output_cost_per_token": 2e-7}
# It asks for releases of these that came after its own; what is used of them here has not changed.
OVERRIDES = ("certifi==2026.10.18", "litellm-proxy-extras==0.4.110")
KEY = "sk-bench"


def _programs() -> Path:
    return environments.python("litellm", PINS, OVERRIDES)


def _install() -> str:
    _programs()
    valkey.install()
    return PINS[0].partition("==")[2]


def _start(with_redis: bool, site: Site) -> Gateway:
    models = [
        {
            "model_name": MODEL,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": url, "api_key": "none", **PRICE},
        }
        for url in site.urls("/v1")
    ]
    settings: dict[str, object] = {"routing_strategy": "simple-shuffle", "num_retries": 0}
    stores = []
    if with_redis:
        store, port = valkey.start(site)
        stores.append(store)
        settings |= {"routing_strategy": "usage-based-routing-v2", "redis_host": "127.0.0.1", "redis_port": port}
    config = {
        "model_list": models,
        "router_settings": settings,
        "litellm_settings": {"telemetry": False, "request_timeout": 600},
        "general_settings": {"master_key": KEY},
    }
    path = site.write("litellm.yaml", json.dumps(config, indent=1))  # YAML holds JSON
    program = _programs() / "litellm"
    command: list[str | Path] = [program, "--config", path, "--host", "127.0.0.1", "--port", str(site.port)]
    command += ["--num_workers", "1"]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION"}
    headers = (f"authorization: Bearer {KEY}",)
    return launch(site, command, ready="/health/readiness", timeout_s=120, env=env, headers=headers, stores=stores)


PEER = Peer("litellm", "LiteLLM", _install, partial(_start, False))
WITH_REDIS = Peer("litellm-redis", "LiteLLM with Redis", _install, partial(_start, True))
