"""Portkey's gateway (Node): providers and weights come with each request, as its clients send them."""

from __future__ import annotations

import json
from pathlib import Path

from bench import environments
from bench.peers.base import Gateway, Peer, Site, launch

PACKAGE, VERSION = "@portkey-ai/gateway", "1.15.2"
# The ranges it asks for let in releases of @hono/node-server with which every stream answers 500.
OVERRIDES = {"@hono/node-server": "1.13.8", "@hono/node-ws": "1.2.0"}


def _modules() -> Path:
    return environments.node("portkey", PACKAGE, VERSION, OVERRIDES)


def _install() -> str:
    _modules()
    return VERSION


def _start(site: Site) -> Gateway:
    program = _modules() / PACKAGE / "build" / "start-server.js"
    targets = [{"provider": "openai", "api_key": "none", "custom_host": url, "weight": 1} for url in site.urls("/v1")]
    config = json.dumps({"strategy": {"mode": "loadbalance"}, "targets": targets}, separators=(",", ":"))
    env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
    command: list[str | Path] = ["node", program, f"--port={site.port}", "--headless"]
    return launch(site, command, ready="/", env=env, headers=(f"x-portkey-config: {config}",))


PEER = Peer("portkey", "Portkey gateway", _install, _start)
