"""The configured part of a backend, and where it stands."""

from __future__ import annotations

from collections.abc import Collection

from router.core.affinity import place_seed
from router.core.leaving import Notice
from router.core.traits import TRAITS, Continues
from router.core.types import BackendSpec


class Configured:
    """The part of a ``Backend`` that neither requests nor probes alter."""

    __slots__ = (
        "asleep",
        "burning_in_since_s",
        "continues_found",
        "draining",
        "jurisdiction",
        "leaving",
        "local",
        "models",
        "name",
        "region",
        "rtt_prior_s",
        "seed",
        "spec",
        "unready",
    )

    def __init__(self, spec: BackendSpec) -> None:
        self.draining = False
        #: its engine sleeps, or does not run: it gets requests when it was woken
        self.asleep = False
        #: it goes away at a known time, or has gone and is not back
        self.leaving: Notice | None = None
        #: its source says that it is not ready
        self.unready = False
        #: it gets no requests before it has proved itself; None: it has, or need not
        self.burning_in_since_s: float | None = None
        self.install(spec)
        self.forget_engine()

    def install(self, spec: BackendSpec) -> None:
        """Take over what is configured. ``stand`` must follow."""
        self.spec = spec
        self.name = spec.name
        self.region = spec.region.name
        self.jurisdiction = spec.region.jurisdiction
        self.seed = place_seed(spec.name)
        self.stand(local=False, rtt_prior_s=None)

    def stand(self, *, local: bool, rtt_prior_s: float | None) -> None:
        """Take its place beside the router: whether in the same region, and how far away by the map."""
        self.local, self.rtt_prior_s = local, rtt_prior_s

    def drain(self, draining: bool) -> bool:
        """Stop or resume new requests. Returns whether that changes anything."""
        changed = self.draining != draining
        self.draining = draining
        return changed

    def sleep(self, asleep: bool) -> bool:
        """It sleeps, or is awake again. Returns whether that changes anything."""
        changed = self.asleep != asleep
        self.asleep = asleep
        return changed

    def leave(self, notice: Notice | None) -> bool:
        """It goes away at a known time; None: it stays, or is back. Returns whether that changes anything."""
        changed = self.leaving != notice
        self.leaving = notice
        return changed

    def hold(self, unready: bool) -> bool:
        """Its source says that it is not ready, or is again. Returns whether that changes anything."""
        changed = self.unready != unready
        self.unready = unready
        return changed

    @property
    def withdrawn(self) -> bool:
        """Gets no new requests, because somebody said so."""
        return self.draining or self.asleep or self.unready or self.leaving is not None

    def forget_engine(self) -> None:
        """Another engine stands behind the name."""
        #: how the live engine can continue answers of others, None before a probe has told
        self.continues_found: Continues | None = None
        #: None: not configured, and the engine has not told yet
        self.models: frozenset[str] | None = frozenset(self.spec.models) if self.spec.models else None

    def learn_models(self, models: Collection[str]) -> bool:
        """The answer of /v1/models. Returns whether it changed anything; what is configured holds."""
        if self.spec.models or self.models == frozenset(models):
            return False
        self.models = frozenset(models)
        return True

    def take_continues(self, found: Continues) -> None:
        self.continues_found = found

    def serves(self, model: str) -> bool:
        return self.models is not None and model in self.models

    @property
    def continues(self) -> Continues:
        """How it can continue answers of others: found, else believed of engines of its kind."""
        found = self.continues_found
        return TRAITS[self.spec.engine].continues if found is None else found

    @property
    def max_inflight(self) -> int:
        return self.spec.max_inflight
