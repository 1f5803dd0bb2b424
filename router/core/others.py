"""Counts of one backend that are not ours: from peers and scrapes."""

from __future__ import annotations

from router.core.cost import peers_share
from router.core.params import Params
from router.core.types import LoadSample


class Others:
    """Requests at a backend that are not ours, and their prompts that are not computed."""

    __slots__ = (
        "_params",
        "load",
        "peers_at_s",
        "peers_inflight",
        "peers_tokens",
        "scraped_inflight",
        "scraped_tokens",
    )

    def __init__(self, params: Params) -> None:
        self._params = params
        #: the last scrape
        self.load: LoadSample | None = None
        self.scraped_inflight = self.scraped_tokens = 0.0
        self.peers_inflight = self.peers_tokens = 0.0
        self.peers_at_s = float("-inf")

    def peers_now(self, now_s: float) -> int:
        """Requests of other routers there, as far as is known; the count fades with the age of what they told."""
        return round(self.peers_inflight * peers_share(now_s - self.peers_at_s, self._params))

    def fresh_load(self, now_s: float) -> LoadSample | None:
        """The last scrape, or None when it is too old to mean anything."""
        load = self.load
        return load if load is not None and now_s - load.at_s <= self._params.load_fresh_s else None

    def take_peers(self, inflight: int, tokens: int, now_s: float) -> None:
        """All other routers together have this in flight there."""
        self.peers_inflight, self.peers_tokens, self.peers_at_s = float(inflight), float(tokens), now_s

    def take_scrape(self, sample: LoadSample, *, inflight: int, prompts: int, mean_tokens: float) -> None:
        """Count as requests of others whatever the scrape shows beyond ours.

        ``inflight`` and ``prompts`` are ours that it can have seen: it is late, and what we sent after it was taken is
        not in it. ``mean_tokens`` are taken to be ahead of each request of others that waits.
        """
        self.load = sample
        running, waiting = sample.running or 0.0, sample.waiting or 0.0
        self.scraped_inflight = max(0.0, running + waiting - inflight)
        self.scraped_tokens = max(0.0, waiting - prompts) * mean_tokens

    def counted(self, load: LoadSample | None, neutral_inflight: float, now_s: float) -> tuple[float, float]:
        """(requests, uncached tokens) of others. ``load``: the scrape if it is fresh, else the neutral count is taken.

        Peers and the scrape see the same requests: the larger view counts, not the sum.
        """
        share = peers_share(now_s - self.peers_at_s, self._params)
        scraped = (neutral_inflight, 0.0) if load is None else (self.scraped_inflight, self.scraped_tokens)
        return max(self.peers_inflight * share, scraped[0]), max(self.peers_tokens * share, scraped[1])
