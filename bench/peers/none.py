"""No gateway: the load goes to the first backend. What the others add is counted from here."""

from __future__ import annotations

from bench.peers.base import Gateway, Peer, Site


def _start(site: Site) -> Gateway:
    return Gateway(site.backends[0], site.backends)


PEER = Peer("none", "no gateway", lambda: "", _start)
