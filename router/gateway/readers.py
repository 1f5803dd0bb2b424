"""Clients that do not read their answers: what they may hold while others wait."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from router.gateway.exchange import Exchange
from router.wire.inbound import Inbound

#: A reader whose answer has piled up, and that has taken nothing of it for this long, is deaf.
DEAF_S = 1.0
#: How much of a backend's places deaf readers may hold while requests wait for a place.
SHARE = 0.25
_LOOK_S = 0.25


class DeafReaders:
    """Finds those that hold too much. A reader that takes anything at all, however slowly, is not one of them."""

    def __init__(self) -> None:
        self._looks: dict[Inbound, tuple[int, float]] = {}  # bytes not taken, and since when
        self._due_s = float("-inf")

    def excess(self, stalled: Iterable[Inbound], places: Callable[[str], float], now_s: float) -> list[Inbound]:
        """Of the ``stalled``, those to end because requests wait: at each backend the deafest beyond their share.
        ``places``: how many requests a backend may have."""
        if now_s < self._due_s:
            return []
        self._due_s = now_s + _LOOK_S
        looks: dict[Inbound, tuple[int, float]] = {}
        deaf: dict[str, list[tuple[float, Inbound]]] = defaultdict(list)
        for connection in stalled:
            x = connection.exchange
            if not isinstance(x, Exchange) or x.lease is None:
                continue
            left_bytes = connection.unsent()
            before_bytes, since_s = self._looks.get(connection, (left_bytes, now_s))
            if left_bytes < before_bytes:
                since_s = now_s
            looks[connection] = left_bytes, since_s
            if now_s - since_s >= DEAF_S:
                deaf[x.lease.backend].append((since_s, connection))
        self._looks = looks
        found: list[Inbound] = []
        for backend, readers in deaf.items():
            readers.sort(key=lambda reader: reader[0])
            allowed = max(1, int(places(backend) * SHARE))
            found += [connection for _, connection in readers[: max(0, len(readers) - allowed)]]
        return found
