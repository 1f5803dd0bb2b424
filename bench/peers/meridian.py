"""This router with all it does per request: keys, quotas in a real Valkey, the ttft policy over six backends in three
regions, learning, journal and metrics."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench import environments, processes
from bench.environments import NotInstallable
from bench.peers import valkey
from bench.peers.base import MODEL, Gateway, Peer, Site, launch

REPOSITORY = Path(__file__).parents[2]
PLACES = {"us-east": ("us", [38.9, -77.0]), "eu-west": ("eu", [53.3, -6.3]), "ap-south": ("in", [19.1, 72.9])}

CONFIG = """\
[router]
name = "bench"
region = "us-east"
listen = "127.0.0.1:{port}"
admin = "127.0.0.1:{admin}"
policy = "ttft"
workers = {workers}
{store}
[auth]
mode = "keys"

[plans.default]
requests_per_minute = 100_000_000
tokens_per_minute = 1_000_000_000_000
concurrent = 1_000_000
"""
STORE = """
[store]
redis = "redis://127.0.0.1:{port}/0"
"""
REGION = """
[[regions]]
name = "{name}"
location = {location}
jurisdiction = "{jurisdiction}"
"""
BACKEND = """
  [[regions.backends]]
  name = "{name}"
  url = "{url}"
  engine = "vllm"
  models = ["{model}"]
  max_inflight = 100_000
"""


def config_text(site: Site, *, admin: int, store_port: int | None, workers: int) -> str:
    """regions.toml: the backends dealt out to the three regions in turn."""
    store = STORE.format(port=store_port) if store_port is not None else ""
    text = CONFIG.format(port=site.port, admin=admin, store=store, workers=workers)
    for number, (name, (jurisdiction, location)) in enumerate(PLACES.items()):
        text += REGION.format(name=name, location=location, jurisdiction=jurisdiction)
        for letter, url in zip("abcdefgh", site.urls()[number :: len(PLACES)], strict=False):
            text += BACKEND.format(name=letter, url=url, model=MODEL)
    return text


def _install() -> str:
    valkey.install()
    return environments.run(["git", "-C", REPOSITORY, "describe", "--always", "--dirty", "--abbrev=9"]).strip()


def _other_python() -> str:
    """MERIDIAN_PYTHON: an interpreter that has what requirements.lock asks for."""
    python = os.environ.get("MERIDIAN_PYTHON")
    if python is None:
        raise NotInstallable("MERIDIAN_PYTHON names no interpreter")
    return python


def _install_other() -> str:
    told = environments.run([_other_python(), "-c", "import sys, uvloop; print(sys.version.split()[0])"])
    return f"{_install()}, Python {told.strip()}"


def _start_other(site: Site) -> Gateway:
    return start(site, shared=True, python=_other_python())


def start(
    site: Site,
    *,
    shared: bool,
    workers: int = 1,
    program: Sequence[str | Path] = ("-m", "router"),
    python: str = sys.executable,
) -> Gateway:
    """The router with a key of its own. `program` is what the interpreter runs with the configuration."""
    stores, store_port = [], None
    if shared:
        store, store_port = valkey.start(site)
        stores.append(store)
    admin = processes.free_port()
    config = site.write("regions.toml", config_text(site, admin=admin, store_port=store_port, workers=workers))
    command: list[str | Path] = [python, *program, config]
    gateway = launch(site, command, ready="/readyz", env={"PYTHONPATH": str(REPOSITORY)}, stores=stores)
    try:
        made = processes.http(f"http://127.0.0.1:{admin}/admin/v1/keys", body=json.dumps({"name": "bench"}).encode())
    except BaseException:
        gateway.stop()
        raise
    gateway.headers = (f"authorization: Bearer {json.loads(made)['key']}",)
    return gateway


PEER = Peer("meridian", "**Meridian**", _install, partial(start, shared=True))
#: How much of it is the interpreter's.
OTHER_PYTHON = Peer("meridian-python", "Meridian, another Python", _install_other, _start_other)
#: On the same core as one: what a second worker adds to a request.
TWO_WORKERS = Peer("meridian-2", "Meridian, 2 workers", _install, partial(start, shared=True, workers=2))
IN_MEMORY = Peer("meridian-memory", "Meridian, state in memory", _install, partial(start, shared=False))
