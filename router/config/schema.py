"""Every key of regions.toml, once: the loader checks by this table, the JSON schema and docs/config.md are made of it.

Defaults stand in ``model.py``.
"""

from __future__ import annotations

from router.config.address import listen_problem, notice_problem, url_problem
from router.config.jwt_schema import JWT_INNER, JWT_SECTION
from router.config.model import (
    AuthSection,
    AutoscalingSection,
    ContinuationSection,
    CorsSection,
    HedgeSection,
    JournalSection,
    LimitsSection,
    ModelAlias,
    ModelTarget,
    ProbesSection,
    ResponsesSection,
    RouterSection,
    Source,
    StoreSection,
    TimeoutsSection,
    TokensSection,
    WakeSection,
)
from router.config.model_keys import AUTOSCALING_KEYS, MODEL_KEYS
from router.config.names import (
    each,
    env_problem,
    file_problem,
    host_problem,
    jurisdiction_problem,
    location_problem,
    model_problem,
    name_problem,
    origin_problem,
)
from router.config.plan_keys import ALERTS, ALL, PLANS, PRICES, TENANTS, price_setting
from router.config.redis_url import redis_problem
from router.config.setting import Section, Setting
from router.config.tracing_keys import TRACING
from router.core.prices import Price
from router.core.traits import ENGINES, Continues
from router.core.types import BackendSpec, RegionSpec

_DAY_S = 86_400.0


SECTIONS: tuple[Section, ...] = (
    Section(
        "router",
        "This router process.",
        RouterSection,
        (
            Setting(
                "name", "string", "Name of this router. Default: the host name.", problem=name_problem, computed=True
            ),
            Setting("region", "string", "The region this router stands in; policies prefer it.", problem=name_problem),
            Setting("listen", "string", "HOST:PORT for clients.", problem=listen_problem),
            Setting(
                "admin",
                "string",
                "HOST:PORT for operators: admin API, /metrics, /healthz, /readyz.",
                problem=listen_problem,
            ),
            Setting(
                "workers", "integer", "Router processes on this machine; more than one needs a store.", low=1, high=256
            ),
            Setting(
                "share_port",
                "boolean",
                "May another router with this key be started on the same addresses? It gets the clients from then on: "
                "see [Restart or upgrade a router](runbook.md#restart-or-upgrade-a-router).",
            ),
            Setting("policy", "string", "How a backend is chosen; `router policies list` explains each."),
            Setting("policy_header", "boolean", "May a request choose its policy with x-router-policy?"),
            Setting("chaos", "boolean", "May operators make attempts fail on purpose, with `router chaos`?"),
            Setting(
                "tls_cert",
                "string",
                "PEM file with the certificate of the clients' listener and its chain; read again when it changes.",
                problem=file_problem,
            ),
            Setting("tls_key", "string", "PEM file with the private key of tls_cert.", problem=file_problem),
            Setting(
                "tls_client_ca",
                "string",
                "PEM file with authorities: clients must show a certificate from one of them. Needs tls_cert.",
                problem=file_problem,
            ),
        ),
    ),
    Section(
        "store",
        "State that routers share: keys, quotas, drains. Without `redis` it is this process's memory.",
        StoreSection,
        (
            Setting(
                "redis",
                "string",
                'A redis://, rediss://, redis+sentinel:// or redis+cluster:// URL, "env:NAME" to take the URL from the '
                'environment, or "embedded" for a private Valkey. Options follow as `?name=value&...`: see the '
                "[runbook](runbook.md#the-address-of-the-store).",
                problem=lambda text: env_problem(text[4:]) if text.startswith("env:") else redis_problem(text),
                secret=True,
            ),
            Setting(
                "on_down",
                "string",
                "While the store is away and held allowances are used up: `share` (limit divided by the known "
                "routers), `deny` or `allow`.",
                choices=("share", "deny", "allow"),
            ),
            Setting(
                "snapshot",
                "string",
                "File in which this router keeps the API keys as the store does, hashed, for itself alone (mode 0600). "
                "A router that starts while the store is away serves them. Without it such a router is not ready. "
                "Beside it, in a file of the same name and `.quotas`, stands what was used of limits.",
            ),
            Setting(
                "wait",
                "number",
                "Seconds after which a request is served on credit if there is room for that and the store has not "
                "answered; where the store is farther away than this, one round trip as it is measured.",
                low=0.01,
                high=2.0,
            ),
        ),
    ),
    Section(
        "auth",
        "Who may send requests and who may operate.",
        AuthSection,
        (
            Setting("mode", "string", "`keys`: clients need an API key; `open`: anybody.", choices=("keys", "open")),
            Setting("allow_open", "boolean", "Permit `open` on an address that other machines can reach."),
            Setting(
                "admin_token_env",
                "string",
                "Environment variable that holds the admin token. Required when `admin` is not loopback.",
                problem=env_problem,
                secret=True,
            ),
            Setting(
                "operators",
                "string",
                "File of operators: tokens, each with a name and a role (`read`, `operate`, `admin`), mode 0600. The "
                "first start makes it, with a token for the operator `admin`: see the "
                "[runbook](runbook.md#who-may-operate).",
                problem=file_problem,
            ),
        ),
    ),
    JWT_SECTION,
    Section(
        "cors",
        "Web pages that may call the router from a browser. None by default.",
        CorsSection,
        (
            Setting(
                "origins",
                "strings",
                'Origins such as "https://chat.example.com", with the port if it is not the usual one; "*" for all.',
                problem=each(origin_problem),
            ),
        ),
    ),
    PLANS,
    TENANTS,
    ALL,
    Section(
        "models",
        "Models: aliases, weighted variants, fallbacks, prices, limits, and how many backends of each are to run. A "
        "limit counts the requests of all keys for this name, and those for other names that lead to this model first.",
        ModelAlias,
        MODEL_KEYS,
        named=True,
    ),
    PRICES,
    ALERTS,
    Section(
        "timeouts",
        "Seconds.",
        TimeoutsSection,
        (
            Setting(
                "connect",
                "number",
                "To open a connection to a backend; where no other one could be asked, up to four times as long.",
                above=0,
                high=_DAY_S,
            ),
            Setting("first_token", "number", "From sending to the first content token.", above=0, high=_DAY_S),
            Setting("token_gap", "number", "Between two content tokens.", above=0, high=_DAY_S),
            Setting("answer", "number", "A whole answer that is not streamed.", above=0, high=_DAY_S),
            Setting(
                "request_body",
                "number",
                "To receive a request's body, of which 8 KiB must come every 8 s. One that comes at [limits] "
                "body_bytes_per_s or faster may take longer.",
                above=0,
                high=_DAY_S,
            ),
            Setting(
                "request_body_whole",
                "number",
                "To receive a request's body, however steadily it comes.",
                above=0,
                high=_DAY_S,
            ),
            Setting(
                "client_stall",
                "number",
                "A client that takes less than 1 KiB of its waiting answer in this time is cut off.",
                above=0,
                high=_DAY_S,
            ),
            Setting(
                "lead",
                "number",
                "When this router stops: from not ready to the end of listening, so that balancers notice. Default: 5 "
                "under Kubernetes, else 0.",
                low=0,
                high=_DAY_S,
                computed=True,
            ),
            Setting("drain", "number", "For streams to finish when this router stops.", low=0, high=_DAY_S),
            Setting(
                "connection_age",
                "number",
                "Longest use of a connection to a backend; a request in progress ends in peace.",
                above=0,
                high=_DAY_S,
            ),
            Setting(
                "name_age",
                "number",
                "Until the addresses of a backend's host name are asked for again, beside the requests. Addresses that "
                "are known are used until new ones are.",
                low=0.1,
                high=_DAY_S,
            ),
        ),
    ),
    Section(
        "limits",
        "Bounds of what this process holds.",
        LimitsSection,
        (
            Setting("body_bytes", "integer", "Largest request body.", low=1024, high=2**31),
            Setting(
                "body_bytes_per_s",
                "integer",
                "A body that comes as fast may take longer than [timeouts] request_body.",
                low=1,
                high=2**31,
            ),
            Setting("head_bytes", "integer", "Largest request head.", low=1024, high=2**20),
            Setting("headers", "integer", "Most header fields of a request.", low=10, high=10_000),
            Setting("connections", "integer", "Most client connections.", low=1, high=10**6),
            Setting("queue", "integer", "Most requests that wait for a place.", low=0, high=10**6),
            Setting("buffered_bytes", "integer", "Request bodies held at once, together.", low=2**20, high=2**40),
        ),
    ),
    Section(
        "continuation",
        "Streams that break off: another backend continues them, after the last character that the client has.",
        ContinuationSection,
        (
            Setting("enabled", "boolean", "Continue them. If not, they end with an error in band."),
            Setting("breaks", "integer", "How often one answer may break off and be continued.", low=0, high=100),
        ),
    ),
    Section(
        "hedge",
        "Streams whose first token is later than nearly all are, given what was predicted: a second backend is asked, "
        "too. The first content token wins, the other attempt is aborted, and the client pays for one.",
        HedgeSection,
        (
            Setting("enabled", "boolean", "Hedge them, unless more than half of a model's backends are late."),
            Setting("budget", "number", "Hedges in percent of all attempts, at most.", low=0.0, high=50.0),
            Setting("floor", "number", "Seconds before which no first token counts as late.", low=0.0, high=60.0),
        ),
    ),
    Section(
        "autoscaling",
        "Where autoscalers ask how many backends are needed, besides the admin address.",
        AutoscalingSection,
        AUTOSCALING_KEYS,
    ),
    Section(
        "responses",
        "Responses that backends keep under an id, for `previous_response_id` and `/v1/responses/{id}`.",
        ResponsesSection,
        (
            Setting(
                "ttl_s",
                "number",
                "Seconds for which routers remember which backend keeps a response. 0: not at all, and requests that "
                "continue one go anywhere.",
                low=0,
                high=90 * _DAY_S,
            ),
        ),
    ),
    Section(
        "tokens",
        "Prompt tokens of pictures, sound, films and files until an engine says better: a price per item, whatever its "
        "length.",
        TokensSection,
        (
            Setting("image", "integer", "A picture.", low=1, high=10**6),
            Setting("audio", "integer", "A recording.", low=1, high=10**6),
            Setting("video", "integer", "A film.", low=1, high=10**6),
            Setting("file", "integer", "Any other file.", low=1, high=10**6),
        ),
    ),
    Section(
        "journal",
        "The record of every request; it holds no prompts.",
        JournalSection,
        (
            Setting("records", "integer", "Records kept in memory.", low=1, high=10**6),
            Setting("path", "string", "File for the records, as JSON lines for `router replay`.", problem=file_problem),
            Setting("file_bytes", "integer", "A file over this is rotated.", low=2**16, high=2**40),
            Setting("files", "integer", "Files kept, the current one included.", low=1, high=1000),
            Setting(
                "diary",
                "string",
                "Where the router writes down, for itself (mode 0600), what it knows after a restart, also after a "
                "`kill -9`: counts of the last day, its latest requests and its events. The names of its files begin "
                "with this path; together they are 48 MiB at most. Without it, all this is gone when the router ends.",
                problem=file_problem,
            ),
        ),
    ),
    TRACING,
    Section(
        "probes",
        "How often backends are asked for their health, distance and load.",
        ProbesSection,
        (
            Setting("interval", "number", "Seconds between two probes, jittered.", low=0.02, high=3600),
            Setting("timeout", "number", "Seconds until a probe has failed.", low=0.01, high=60),
        ),
    ),
)

#: For a backend, or for all backends of a region that do not say otherwise.
TLS_KEYS: tuple[Setting, ...] = (
    Setting(
        "tls_ca",
        "string",
        "PEM file with the authorities of the certificates of https:// backends. Default: those of the system.",
        problem=file_problem,
    ),
    Setting("tls_cert", "string", "PEM file with the certificate to show to https:// backends.", problem=file_problem),
    Setting("tls_key", "string", "PEM file with the private key of tls_cert.", problem=file_problem),
    Setting(
        "tls_server_name",
        "string",
        "The host name that the backend's certificate is for. Default: that of the url.",
        problem=host_problem,
    ),
)

#: For a backend, or for all backends of a region that do not say otherwise, too.
SHARED_KEYS: tuple[Setting, ...] = (
    Setting(
        "probation",
        "string",
        "How a new backend gets its first requests. `trials`: like all others. `burn-in`: when it has passed what "
        "`router regions burn-in` asks of it, and then by and by.",
        choices=("trials", "burn-in"),
    ),
    Setting(
        "continues",
        "string",
        "How it can continue an answer that another backend began. `auto`: an engine that may be able to is asked "
        "once, for some 20 tokens; `openai` and `router` are not asked and count as `no`. `no`, `text` (after the text "
        "so far) and `ids` (after its tokens as well) are believed.",
        choices=("auto", *(c.word for c in Continues)),
    ),
    Setting(
        "gpu_metrics",
        "string",
        "Page with the metrics of its GPUs, as NVIDIA's DCGM exporter, or one of `nvidia_smi_*` or `nvidia_gpu_*`, "
        "writes it: `http://10.0.0.1:9400/metrics`. `router regions show` and metrics tell how busy they are, and why. "
        "`{host}` stands for the host of the backend.",
        problem=notice_problem,
    ),
    *TLS_KEYS,
)

BACKEND_KEYS: tuple[Setting, ...] = (
    Setting(
        "name", "string", "Name within the region: `a` in us-east is us-east/a.", problem=name_problem, required=True
    ),
    Setting(
        "url", "string", "http:// or https:// address, without /v1.", problem=url_problem, required=True, secret=True
    ),
    Setting("engine", "string", "What answers there; `router` is another router of ours.", choices=ENGINES),
    Setting("models", "strings", "Models it serves. Default: asked from its /v1/models.", problem=each(model_problem)),
    Setting("max_inflight", "integer", "Most requests in flight there, of this router.", low=1, high=10**6),
    Setting("cost_usd_hour", "number", "US dollars per hour, for the policy `cheapest`.", low=0, high=1e6),
    price_setting(
        "price_usd_per_mtok",
        "US dollars per million tokens that this backend answers, whichever model; charged to budgets.",
        "prices",
    ),
    Setting(
        "key_env",
        "string",
        "Environment variable that holds the backend's API key.",
        problem=env_problem,
        secret=True,
    ),
    Setting(
        "notice_url",
        "string",
        "http:// address that is asked every two seconds whether the backend's machine is to go away, as clouds tell "
        "spot machines: 404 means no, a time or `TRUE` is a notice. See [Spot machines](runbook.md#spot-machines).",
        problem=notice_problem,
    ),
    *SHARED_KEYS,
)

REGION_KEYS: tuple[Setting, ...] = (
    Setting("name", "string", "Name of the region.", problem=name_problem, required=True),
    Setting("location", "numbers", "[latitude, longitude] in degrees.", problem=location_problem),
    Setting("jurisdiction", "string", "Whose law the data is under; plans ask for it.", problem=jurisdiction_problem),
    *SHARED_KEYS,
    Setting("backends", "tables", "The engines of the region.", inner=BACKEND_KEYS),
)

#: Dataclasses of the tables above that are not sections.
INNER_MODELS: dict[str, type] = {
    "targets": ModelTarget,
    "wake": WakeSection,
    "backends": BackendSpec,
    "regions": RegionSpec,
    "price_usd_per_mtok": Price,
    "default": Price,
    "sources": Source,
    **JWT_INNER,
}
