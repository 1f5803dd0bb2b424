"""The gateways that are compared, in the order of the table.

base           what a peer is: installing and starting
none           without a gateway
nginx          a lower limit in C
haproxy        another one
meridian       this router, in several forms
vllm_router    vLLM's router in Rust
sglang_router  SGLang's router in Rust
aiohttp40      runs proxy40
proxy40        a proxy in 40 lines of aiohttp
portkey        Portkey's gateway
litellm        LiteLLM's proxy
valkey         the Valkey that gateways share state through
"""

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
