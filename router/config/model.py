"""The contents of regions.toml as frozen values. A reload makes a new Config and replaces the old one."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property

from router.core.limits import KINDS, Limits
from router.core.needed import Goal
from router.core.prices import Tariff
from router.core.types import BackendSpec, RegionSpec


@dataclass(frozen=True, slots=True)
class RouterSection:
    name: str = "router"  # default when loaded from a file: the host name
    region: str | None = None
    listen: str = "127.0.0.1:8080"
    admin: str = "127.0.0.1:9090"
    workers: int = 1
    policy: str = "ttft"
    #: a request may choose its policy with x-router-policy
    policy_header: bool = False
    chaos: bool = False
    share_port: bool = False  # with other routers on this machine, while one takes over from another
    tls_cert: str | None = None  # path of the certificate chain of the clients' listener; None: plain HTTP
    tls_key: str | None = None  # path of its private key
    tls_client_ca: str | None = None  # path of the authorities of clients' certificates; None: clients need none


@dataclass(frozen=True, slots=True)
class StoreSection:
    #: URL, "embedded", or None: in-process memory. May hold a password, so it is kept out of ``repr``.
    redis: str | None = field(default=None, repr=False)
    on_down: str = "share"  # share | deny | allow
    #: path of a file with the keys, for a start while the store is away; None: such a start serves nobody
    snapshot: str | None = None
    wait: float = 0.1  # seconds, the longest that a request waits for a store that is nearer than this


@dataclass(frozen=True, slots=True)
class AuthSection:
    mode: str = "keys"  # keys | open
    allow_open: bool = False
    admin_token_env: str | None = None  # the environment variable that holds the admin token
    operators: str | None = None  # path of the file with the tokens of operators; None: only the admin token


@dataclass(frozen=True, slots=True)
class PlanOfClaim:
    value: str
    plan: str


@dataclass(frozen=True, slots=True)
class JwtSection:
    jwks: str | None = None  # path of a file, or a URL; None: no JWT is accepted
    issuer: str | None = None
    audience: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    leeway: float = 30.0
    tenant_claim: str = "sub"
    plan_claim: str | None = None
    plan_map: tuple[PlanOfClaim, ...] = ()
    default_plan: str = "default"
    refresh: float = 300.0
    tls_ca: str | None = None


@dataclass(frozen=True, slots=True)
class CorsSection:
    origins: tuple[str, ...] = ()  # of web pages that may call the router; "*": of all


@dataclass(frozen=True, kw_only=True)  # no slots: limits are cached
class Limited:
    """Whatever has limits. ``core/limits.KINDS`` names the attribute of each kind. None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    budget_usd_month: float | None = None
    prompt_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    budget_usd_day: float | None = None

    @cached_property
    def limits(self) -> Limits:
        """The same limits in units of the arithmetic."""
        return Limits(*(kind.units(getattr(self, kind.key)) for kind in KINDS))


@dataclass(frozen=True)
class Plan(Limited):
    name: str
    _: KW_ONLY
    priority: str = "standard"
    residency: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # that may be asked for, by the names that clients use; none: all
    loop_guard: str = "observe"  # off | observe | stop
    show_cost: bool = False  # to clients, in a header
    degrade: bool = False  # its requests may get a smaller variant of an overloaded model
    #: False for the plan ``default`` of a file that does not have it
    written: bool = True

    @property
    def unlimited(self) -> bool:
        """The plan limits neither amounts nor jurisdictions nor models."""
        return not self.residency and not self.models and self.limits.unlimited

    def permits(self, model: str) -> bool:
        """May its keys ask for this name?"""
        return not self.models or model in self.models


@dataclass(frozen=True)
class Tenant(Limited):
    """Limits of all keys of a tenant together. The tenant ``default`` stands for those without a table."""

    name: str


@dataclass(frozen=True)
class AllSection(Limited):
    """Limits of all requests together."""


@dataclass(frozen=True, slots=True)
class ModelTarget:
    model: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class AutoscalingSection:
    listen: str | None = None  # HTTPS for the aggregation layer of Kubernetes
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    keda: str | None = None  # gRPC for KEDA


@dataclass(frozen=True, slots=True)
class WakeSection:
    url: str | None = field(default=None, repr=False)  # of a webhook; it may hold a secret
    token_env: str | None = None  # the environment variable that holds its bearer token
    scale: str | None = None  # NAMESPACE/deployments/NAME
    api: str | None = None  # URL of the Kubernetes API; None: of the cluster of this router
    held: int = 1000  # requests, while nothing runs
    held_bytes: int = 64 * 1024 * 1024  # of their bodies together
    wait_s: float = 300.0  # for which one is held


@dataclass(frozen=True)
class ModelAlias(Limited):
    name: str
    targets: tuple[ModelTarget, ...] = ()
    fallbacks: tuple[str, ...] = ()
    prices: Tariff = ()
    target_ttft_s: float | None = None  # of 95 % of first tokens; None: no number of backends is asked for
    degrade: tuple[str, ...] = ()  # smaller variants, the preferred one first
    least: int = 1  # backends in each region
    most: int | None = None
    hold_s: float = 60.0  # fewer are asked for when fewer would have been enough for this long
    cold_start_s: float = 90.0  # from the wish for a backend to its first token
    idle_s: float = 600.0  # where the least is 0: without a request for this long none is needed
    wake: WakeSection = field(default_factory=WakeSection)

    @property
    def goal(self) -> Goal | None:
        """How many backends are to run, as the core wants to know it."""
        if self.target_ttft_s is None:
            return None
        return Goal(self.target_ttft_s, self.least, self.most, self.idle_s, self.hold_s, self.cold_start_s)


@dataclass(frozen=True, slots=True)
class PricesSection:
    default: Tariff = ()  # of what has no price of its own


@dataclass(frozen=True, slots=True)
class AlertsSection:
    webhook: str | None = field(default=None, repr=False)  # it may hold a secret
    secret_env: str | None = None  # the environment variable that holds the secret of its signatures


@dataclass(frozen=True, slots=True)
class TimeoutsSection:
    connect: float = 1.0
    first_token: float = 60.0
    token_gap: float = 60.0
    answer: float = 600.0  # a whole answer that is not streamed
    request_body: float = 30.0
    client_stall: float = 30.0  # a client that takes nothing of its answer
    lead: float = 0.0  # from not ready to the end of listening; default from a file under Kubernetes: 5
    request_body_whole: float = 600.0  # also of one that keeps coming fast enough
    drain: float = 300.0
    connection_age: float = 300.0  # of a connection to a backend
    name_age: float = 10.0  # of the addresses of a backend's host name


@dataclass(frozen=True, slots=True)
class LimitsSection:
    body_bytes: int = 32 * 1024 * 1024
    head_bytes: int = 32 * 1024
    headers: int = 100
    connections: int = 20_000
    queue: int = 1024  # requests that wait for a place
    body_bytes_per_s: int = 16 * 1024  # a body that comes as fast may take longer than [timeouts] request_body
    buffered_bytes: int = 512 * 1024 * 1024  # request bodies held at once, all connections together


@dataclass(frozen=True, slots=True)
class ContinuationSection:
    enabled: bool = True
    breaks: int = 3  # how often one answer may break off


@dataclass(frozen=True, slots=True)
class HedgeSection:
    enabled: bool = False
    budget: float = 5.0  # percent of all attempts
    floor: float = 0.25  # seconds, no hedge sooner


@dataclass(frozen=True, slots=True)
class ResponsesSection:
    ttl_s: float = 21_600.0


@dataclass(frozen=True, slots=True)
class TokensSection:
    image: int = 1000
    audio: int = 1000
    video: int = 4000
    file: int = 2000


@dataclass(frozen=True, slots=True)
class JournalSection:
    records: int = 10_000  # kept in memory
    path: str | None = None  # JSON lines on disk, for router replay
    file_bytes: int = 256 * 1024 * 1024  # a file over this is rotated
    files: int = 4  # kept on disk, the current one included
    diary: str | None = None  # path of the files of what a router knows after a restart


@dataclass(frozen=True, slots=True)
class TracingSection:
    #: URL of a collector; None: nothing is traced. A path may be secret, so it is kept out of ``repr``.
    collector: str | None = field(default=None, repr=False)
    headers_env: str | None = None  # the environment variable that holds headers for it
    compression: str = "none"  # none | gzip
    sample: float = 1.0  # share of the traces that begin here
    slow_s: float = 5.0
    tls_ca: str | None = None


@dataclass(frozen=True, slots=True)
class ProbesSection:
    interval: float = 1.0  # seconds, jittered
    timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class Region:
    spec: RegionSpec
    backends: tuple[BackendSpec, ...] = ()
    #: keys of the region that hold for each of its backends
    shared: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """Where backends of one region are found, and what those that are found are like."""

    name: str
    kind: str  # dns | srv | kubernetes
    region: RegionSpec
    host: str = ""  # dns: HOST:PORT · srv: a name
    nameserver: str | None = None  # HOST:PORT; None: those of /etc/resolv.conf
    refresh: float = 30.0  # seconds between two look-ups at most; a shorter TTL holds
    selector: str = ""
    namespace: str | None = None  # None: that of this pod
    port: str = ""  # name or number; empty: the first one
    api: str | None = None  # URL; None: that of the cluster this router runs in
    token_file: str | None = None
    ca_file: str | None = None
    nodes: bool = False  # watch the nodes for taints that announce their end
    scheme: str = "http"
    prefix: str = ""
    grace: float = 30.0  # seconds for which a source that suddenly names nobody is not believed
    leaves_in: float = 30.0  # seconds that a backend has from the word that it ends
    engine: str = "openai"
    models: tuple[str, ...] = ()
    max_inflight: int = 256
    cost_usd_hour: float = 0.0
    key_env: str | None = None
    notice_url: str | None = None
    gpu_metrics: str | None = None
    probation: str = "trials"
    continues: str = "auto"
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_server_name: str | None = None

    def backend(self, short: str, host: str, port: int, *, server_name: str | None = None) -> BackendSpec:
        """The backend at an address. ``server_name``: the name of its certificate, if none is configured."""
        bracketed = f"[{host}]" if ":" in host else host
        notice_url = self.notice_url
        return BackendSpec(
            name=f"{self.region.name}/{self.prefix}{short}",
            region=self.region,
            url=f"{self.scheme}://{bracketed}:{port}",
            engine=self.engine,
            models=self.models,
            max_inflight=self.max_inflight,
            cost_usd_hour=self.cost_usd_hour,
            key_env=self.key_env,
            probation=self.probation,
            continues=self.continues,
            tls_ca=self.tls_ca,
            tls_cert=self.tls_cert,
            tls_key=self.tls_key,
            tls_server_name=self.tls_server_name or (server_name if self.scheme == "https" else None),
            notice_url=notice_url.replace("{host}", bracketed) if notice_url is not None else None,
            gpu_metrics=self.gpu_metrics.replace("{host}", bracketed) if self.gpu_metrics is not None else None,
        )


@dataclass(frozen=True, slots=True)
class Config:
    """All of regions.toml, checked."""

    source: str = "(defaults)"
    router: RouterSection = field(default_factory=RouterSection)
    store: StoreSection = field(default_factory=StoreSection)
    auth: AuthSection = field(default_factory=AuthSection)
    jwt: JwtSection = field(default_factory=JwtSection)
    cors: CorsSection = field(default_factory=CorsSection)
    plans: dict[str, Plan] = field(default_factory=lambda: {"default": Plan("default", written=False)})
    tenants: dict[str, Tenant] = field(default_factory=dict)
    all: AllSection = field(default_factory=AllSection)
    models: dict[str, ModelAlias] = field(default_factory=dict)
    prices: PricesSection = field(default_factory=PricesSection)
    alerts: AlertsSection = field(default_factory=AlertsSection)
    timeouts: TimeoutsSection = field(default_factory=TimeoutsSection)
    limits: LimitsSection = field(default_factory=LimitsSection)
    hedge: HedgeSection = field(default_factory=HedgeSection)
    autoscaling: AutoscalingSection = field(default_factory=AutoscalingSection)
    responses: ResponsesSection = field(default_factory=ResponsesSection)
    tokens: TokensSection = field(default_factory=TokensSection)
    continuation: ContinuationSection = field(default_factory=ContinuationSection)
    journal: JournalSection = field(default_factory=JournalSection)
    tracing: TracingSection = field(default_factory=TracingSection)
    probes: ProbesSection = field(default_factory=ProbesSection)
    regions: tuple[Region, ...] = ()
    sources: tuple[Source, ...] = ()
    #: of the part that a worker has of a configuration: the fingerprint of all of it
    whole: str = ""

    @property
    def backends(self) -> tuple[BackendSpec, ...]:
        return tuple(b for r in self.regions for b in r.backends)


def part_of(whole: int, worker: int, workers: int) -> int:
    """The part of a number of places that one of several workers may fill; at least one."""
    return max(1, whole // workers + (worker < whole % workers))
