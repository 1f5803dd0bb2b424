"""The proxy one would write in an afternoon: aiohttp on uvloop, 40 lines (proxy40.py), no LLM features."""

from __future__ import annotations

from pathlib import Path

from bench import environments
from bench.peers.base import Gateway, Peer, Site, launch

PINS = ("aiohttp==3.14.5", "uvloop==0.23.0", "orjson==3.13.0")
PROGRAM = Path(__file__).with_name("proxy40.py")


def _install() -> str:
    environments.python("aiohttp40", PINS)
    return PINS[0].partition("==")[2]


def _start(site: Site) -> Gateway:
    program = environments.python("aiohttp40", PINS) / "python"
    return launch(site, [program, PROGRAM, str(site.port), *site.urls()], ready="/health")


PEER = Peer("aiohttp40", "40 lines of aiohttp", _install, _start)
