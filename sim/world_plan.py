"""The plan of a simulated world: engines, the distances between them, and the habits of routers and clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

from router.core.cost import distance_rtt_s
from router.core.degrading import Smaller
from router.core.params import Params
from router.core.types import BackendSpec, RegionSpec
from sim.geography import DEFAULT_REGIONS, RegionPlan, rtt_ms
from sim.profiles import PROFILES, Profile

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class MachinePlan:
    spec: BackendSpec
    profile: Profile
    #: what first tokens take on top by chance: each request meets one of these
    scatter_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """Engines, distances and habits. ``rtt_s`` maps (router's region, engine's region)."""

    machines: tuple[MachinePlan, ...]
    rtt_s: Mapping[tuple[str, str], float]
    model: str = "llama-3.1-8b"
    #: how the clients that a trace does not place are spread over the regions; default: evenly
    shares: Mapping[str, float] = field(default_factory=dict)
    probe_s: float = 1.0
    scrape_s: float = 1.0
    #: how often a router tells the others what it has in flight and where, and how much later that arrives
    peers_s: float = 0.1
    peers_late_s: float = 0.1
    jitter: float = 0.04  # a message takes up to this share longer than half a round trip
    first_token_timeout_s: float = 60.0
    token_gap_timeout_s: float = 60.0
    params: Params = field(default_factory=Params)
    #: prefixes of other routers are told to every policy, also to those whose original hears of none
    tell_all: bool = False
    #: where routers stand; empty: one in each region
    routers: tuple[str, ...] = ()
    #: requests ask for the model that the trace names, where it names one
    many_models: bool = False
    #: models whose requests may get a smaller variant
    smaller: Mapping[str, Smaller] = field(default_factory=dict)

    @property
    def regions(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(m.spec.region.name for m in self.machines))

    @property
    def homes(self) -> tuple[str, ...]:
        """The places of the routers."""
        return self.routers or self.regions

    def home_of(self, region: str | None, session: str) -> str:
        """The region whose router a client asks: its own if that is known, else one that its session stands for."""
        regions = self.homes
        if region in regions:
            return region
        shares = [self.shares.get(r, 0.0 if self.shares else 1.0) for r in regions]
        place = crc32(session.encode()) / 2**32 * (sum(shares) or 1.0)
        for name, share in zip(regions, shares, strict=True):
            if place < share:
                return name
            place -= share
        return regions[-1]


def built_in_world(
    profile: str | Profile, regions: Sequence[RegionPlan] = DEFAULT_REGIONS, *, backends: int | None = None
) -> WorldPlan:
    """The three default regions with measured distances, all engines of one profile."""
    chosen = PROFILES[profile] if isinstance(profile, str) else profile
    machines = []
    for region in regions:
        spec = RegionSpec(region.name, region.jurisdiction, region.location)
        for i in range(region.backends if backends is None else backends):
            name = f"{region.name}/{_LETTERS[i] if i < 26 else i}"
            backend = BackendSpec(
                name, spec, f"http://{name}", "vllm", ("llama-3.1-8b",), 1024, cost_usd_hour=chosen.cost_usd_hour
            )
            machines.append(MachinePlan(backend, chosen))
    distances = {(a.name, b.name): rtt_ms()[a.city, b.city] / 1000.0 for a in regions for b in regions}
    return WorldPlan(tuple(machines), distances)


def configured_world(specs: Sequence[BackendSpec], profile: str | Profile) -> WorldPlan:
    """A world after a regions.toml: its backends, one profile for all, distances from the regions' locations."""
    chosen = PROFILES[profile] if isinstance(profile, str) else profile
    params = Params()
    places = {s.region.name: s.region.location for s in specs}
    distances = {}
    for a, at in places.items():
        for b, to in places.items():
            known = at is not None and to is not None
            far_s = distance_rtt_s(at, to, params) if at is not None and to is not None else params.rtt_unknown_s
            distances[a, b] = params.rtt_same_region_s if a == b else far_s if known else params.rtt_unknown_s
    model = next((m for s in specs for m in s.models), "model")
    # One that names no models is taken to have the one that is asked for.
    serving = [replace(s, models=s.models or (model,)) for s in specs if not s.models or model in s.models]
    machines = tuple(MachinePlan(s, chosen) for s in serving)
    return WorldPlan(machines, distances, model)
