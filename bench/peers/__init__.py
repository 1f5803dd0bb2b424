"""The gateways that are compared, in the order of the table."""

from __future__ import annotations

from bench.peers import aiohttp40, haproxy, litellm, meridian, nginx, none, portkey, sglang_router, vllm_router
from bench.peers.base import Gateway, Peer, Site

__all__ = ["PEERS", "Gateway", "Peer", "Site"]

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        none.PEER,
        nginx.PEER,
        haproxy.PEER,
        meridian.PEER,
        meridian.IN_MEMORY,
        meridian.OTHER_PYTHON,
        meridian.TWO_WORKERS,
        vllm_router.ROUND_ROBIN,
        vllm_router.CACHE_AWARE,
        sglang_router.ROUND_ROBIN,
        sglang_router.CACHE_AWARE,
        aiohttp40.PEER,
        portkey.PEER,
        litellm.PEER,
        litellm.WITH_REDIS,
    )
}
