"""The orders that a worker gets when it starts: one line of JSON on its standard input."""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from router.config import Config, fingerprint, part_of


@dataclass(frozen=True, slots=True)
class Orders:
    """The file descriptors are inherited. ``human``: log lines for a terminal."""

    worker: int
    config: Config
    generation: int
    human: bool
    clients_fd: int
    admin_fd: int
    board_fd: int
    seats: int

    def encode(self) -> bytes:
        return msgspec.json.encode(self) + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Orders:
        return msgspec.json.decode(line, type=cls)


def share_of(config: Config, worker: int, *, redis: str | None) -> Config:
    """The configuration for one of the workers: each may fill its part of a backend's ``max_inflight``, so that all
    together stay within it. A part is at least one. ``redis`` is the URL of the store they share."""
    workers = config.router.workers
    regions = tuple(
        replace(
            region,
            backends=tuple(replace(b, max_inflight=part_of(b.max_inflight, worker, workers)) for b in region.backends),
        )
        for region in config.regions
    )
    return replace(config, regions=regions, store=replace(config.store, redis=redis), whole=fingerprint(config))
