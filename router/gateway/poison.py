"""Requests that kill backends are remembered for a while, so that they do not walk through the fleet."""

from __future__ import annotations

from collections import OrderedDict

from xxhash import xxh3_64_intdigest

from router.errors import RouterError

_ENTRIES_MAX = 1024
_MEMORY_S = 60.0


class Poison:
    """Bodies that had killed enough, by their hash."""

    def __init__(self) -> None:
        self._since_s: OrderedDict[int, float] = OrderedDict()

    def check(self, body: bytes | bytearray, now_s: float) -> None:
        """Raises RouterError for a body that is remembered."""
        if not self._since_s:
            return
        since_s = self._since_s.get(xxh3_64_intdigest(body))
        if since_s is not None and now_s - since_s < _MEMORY_S:
            detail = "Backends died of this very request; it is not tried again for a while."
            raise RouterError("upstream_error", detail, should_retry=False)

    def remember(self, body: bytes | bytearray, now_s: float) -> None:
        self._since_s[xxh3_64_intdigest(body)] = now_s
        if len(self._since_s) > _ENTRIES_MAX:
            self._since_s.popitem(last=False)
