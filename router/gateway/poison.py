"""Requests that kill backends are remembered for a while, so that they do not walk through the fleet.

A body of which ``Params.deaths_max`` backends died is a *suspect*: it may be the cause, or it was there when several
were restarted. It is refused as long as one of them is away. When all are well it gets one trial, in which a single
death convicts it, and an answer acquits it. A convict is refused for ten minutes. So a body that kills and is sent
again and again kills one backend more than ``deaths_max`` in that time, and one that did not is served as soon as the
backends are back.

Every router that shares the store remembers both for ten minutes. The others refuse a suspect for half a minute, for
they do not know which backends it was; then it gets its trial with them, unless another router has acquitted it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from router.errors import RouterError
from router.store.base import Store

MEMORY_S = 600.0
#: Other routers refuse a suspect this long before they try it.
_FRESH_S = 30.0
#: When a suspect may come again: backends are probed about once a second, and need two good probes.
_AGAIN_S = 2.0
_ENTRIES_MAX = 1024
#: Marks that all routers see: of a suspect, of one that is refused yet, of a convict, of one that was acquitted.
_SUSPECT, _FRESH, _CONVICT, _CLEARED = "poison", "poison-fresh", "poison-convict", "poison-cleared"
#: Of a longer body, its beginning, its end and its length stand for it: hashing holds up everybody.
_HASHED_BYTES_MAX = 1024 * 1024


@dataclass(slots=True, eq=False)
class Suspect:
    digest: str
    backends: frozenset[str]
    since_s: float
    told: bool  # to the other routers
    on_trial: bool = False
    convicted: bool = False


class Poison:
    """What one router knows of such bodies. ``well``: whether a backend of this name is well, or gone for good."""

    def __init__(self, store: Store, well: Callable[[str], bool]) -> None:
        self._store = store
        self._well = well
        self._suspects: OrderedDict[str, Suspect] = OrderedDict()

    def admit(self, body: bytes | bytearray, now_s: float) -> Suspect | None:
        """None: nothing is held against it. A suspect: this is its trial, and ``release`` must follow. Raises
        RouterError for a body that may not be tried now."""
        if not self._suspects and not self._store.any_marks():
            return None
        digest = digest_of(body)
        suspect = self._suspects.get(digest)
        if suspect is not None and now_s - suspect.since_s >= MEMORY_S:
            del self._suspects[digest]
            suspect = None
        if suspect is None:
            return self._heard_of(digest, now_s)
        if suspect.convicted:
            raise _refusal(None)
        if suspect.on_trial or not all(self._well(backend) for backend in suspect.backends):
            raise _refusal(_AGAIN_S)
        suspect.on_trial = True
        return suspect

    def _heard_of(self, digest: str, now_s: float) -> Suspect | None:
        """Judge it by what other routers have told."""
        marked = self._store.marked
        if marked(_CONVICT, digest):
            raise _refusal(None)
        if not marked(_SUSPECT, digest) or marked(_CLEARED, digest):
            return None
        if marked(_FRESH, digest):
            raise _refusal(_AGAIN_S)
        suspect = Suspect(digest, frozenset(), now_s, told=True, on_trial=True)
        _keep(self._suspects, digest, suspect)
        return suspect

    def killed(
        self, body: bytes | bytearray, backends: frozenset[str], now_s: float, *, trial: Suspect | None, told: bool
    ) -> None:
        """``backends`` died of it, or while it was there. ``told``: the other routers may hear of it."""
        if trial is not None:
            trial.convicted, trial.since_s = True, now_s
            suspect, marks = trial, {_CONVICT: MEMORY_S}
        else:
            suspect = Suspect(digest_of(body), backends, now_s, told)
            marks = {_SUSPECT: MEMORY_S, _FRESH: _FRESH_S}
        _keep(self._suspects, suspect.digest, suspect)
        if told:
            for kind, hold_s in marks.items():
                self._store.mark(kind, suspect.digest, hold_s)

    def release(self, suspect: Suspect, now_s: float, *, answered: bool) -> None:
        """The trial is over. Without an answer and without a death it has proved nothing."""
        suspect.on_trial = False
        if answered and not suspect.convicted:
            self._suspects.pop(suspect.digest, None)
            if suspect.told:
                self._store.mark(_CLEARED, suspect.digest, MEMORY_S)


def _keep(entries: OrderedDict[str, Suspect], digest: str, value: Suspect) -> None:
    entries[digest] = value
    entries.move_to_end(digest)
    if len(entries) > _ENTRIES_MAX:
        entries.popitem(last=False)


def digest_of(body: bytes | bytearray) -> str:
    size = len(body)
    digest = blake2b(b"%d:" % size, digest_size=16, person=b"poison")
    if size <= _HASHED_BYTES_MAX:
        digest.update(body)
    else:
        half = _HASHED_BYTES_MAX // 2
        digest.update(memoryview(body)[:half])
        digest.update(memoryview(body)[-half:])
    return digest.hexdigest()


def _refusal(again_s: float | None) -> RouterError:
    detail = "Backends died of this very request; it is not tried again for a while."
    return RouterError("upstream_error", detail, retry_after_s=again_s, should_retry=again_s is not None)
