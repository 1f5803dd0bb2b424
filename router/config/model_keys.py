"""The keys of ``[models.NAME]``: which models answer for a name, what they cost, and how many backends are to run; and
those of ``[autoscaling]``: where autoscalers ask for that number."""

from __future__ import annotations

from router.config.address import listen_problem, webhook_problem
from router.config.names import each, env_problem, file_problem, model_problem, scale_problem
from router.config.plan_keys import LIMIT_KEYS, price_setting
from router.config.setting import Setting

_DAY_S = 86_400.0

MODEL_KEYS: tuple[Setting, ...] = (
    Setting(
        "targets",
        "tables",
        "Models that answer for this name, by weight. Empty: the model of the same name.",
        inner=(
            Setting("model", "string", "A model that backends serve.", problem=model_problem, required=True),
            Setting("weight", "number", "Share of the requests, relative to the other targets.", low=0, high=1e6),
        ),
    ),
    Setting(
        "fallbacks",
        "strings",
        "Models to try, in order, when no backend can serve the targets.",
        problem=each(model_problem),
    ),
    price_setting(
        "price_usd_per_mtok",
        "US dollars per million tokens, for budgets; a list of such tables where the price changes at a date. Charged "
        "whenever this model answers, whatever name was asked for.",
        "prices",
    ),
    *LIMIT_KEYS,
    Setting(
        "target_ttft_s",
        "number",
        "Seconds within which 95 % of first tokens are to come. `router capacity` and the metrics for autoscalers say "
        "how many backends that takes in each region; without it nobody can say.",
        above=0,
        high=3600,
    ),
    Setting(
        "degrade",
        "strings",
        "Smaller variants of this model, the preferred one first. While the first token is predicted later than "
        "`target_ttft_s` at every backend, new requests of plans with `degrade = true` go to one of them; "
        "`x-router-model` says so.",
        problem=each(model_problem),
    ),
    Setting("min", "integer", "Fewest backends to ask for, in each region.", low=0, high=1000, attr="least"),
    Setting("max", "integer", "Most backends to ask for, in each region.", low=1, high=1000, attr="most"),
    Setting(
        "hold_s",
        "number",
        "Fewer backends are asked for when fewer would have been enough for this long, in seconds.",
        low=0,
        high=_DAY_S,
    ),
    Setting(
        "cold_start_s",
        "number",
        "Seconds from the wish for a backend to its first token: the number asked for is that of the requests that "
        "will come by then.",
        low=0,
        high=_DAY_S,
    ),
    Setting(
        "idle_s",
        "number",
        "Where `min` is 0: seconds without a request after which no backend is needed.",
        above=0,
        high=7 * _DAY_S,
    ),
    Setting(
        "wake",
        "table",
        "Where `min` is 0: how a backend is started for the first request, and what may wait for it. Without `url` and "
        "`scale` only engines are woken that take POST /sleep and /wake_up.",
        inner=(
            Setting(
                "url",
                "string",
                'Webhook: gets a POST of {"action": "wake" or "sleep", "model", "region", "backends"}.',
                problem=webhook_problem,
                secret=True,
            ),
            Setting(
                "token_env",
                "string",
                "Environment variable that holds the bearer token of `url`.",
                problem=env_problem,
                secret=True,
            ),
            Setting(
                "scale",
                "string",
                "NAMESPACE/deployments/NAME, or statefulsets, in the cluster of this router: its scale subresource is "
                "set. It needs the right to get and patch it.",
                problem=scale_problem,
            ),
            Setting(
                "api",
                "string",
                "URL of the Kubernetes API, for `scale`. Default: that of the cluster this router runs in.",
                problem=webhook_problem,
            ),
            Setting("held", "integer", "Most requests that are held while nothing runs.", low=1, high=10**6),
            Setting("held_bytes", "integer", "Most bytes of their bodies, together.", low=1024, high=2**40),
            Setting("wait_s", "number", "Seconds for which one is held.", above=0, high=_DAY_S),
        ),
    ),
)

AUTOSCALING_KEYS: tuple[Setting, ...] = (
    Setting(
        "listen",
        "string",
        "HOST:PORT of an HTTPS listener that answers as external.metrics.k8s.io/v1beta1 and nothing else: for the "
        "aggregation layer of Kubernetes, which has no admin token.",
        problem=listen_problem,
    ),
    Setting("tls_cert", "string", "PEM file with its certificate.", problem=file_problem),
    Setting("tls_key", "string", "PEM file with the private key.", problem=file_problem),
    Setting(
        "tls_client_ca",
        "string",
        "PEM file with the authority of the aggregation layer's certificate (requestheader-client-ca-file). Without it "
        "whoever reaches the port may read the numbers.",
        problem=file_problem,
    ),
    Setting(
        "keda",
        "string",
        "HOST:PORT of a gRPC listener that answers as KEDA's external scaler, without TLS. Needs `pip install "
        "'meridian-router[keda]'`.",
        problem=listen_problem,
    ),
)

#: Keys about backends, with their fields. An alias may not have them, for it has no backends of its own.
SCALED_KEYS = {
    key.name: key.attr or key.name
    for key in MODEL_KEYS
    if key.name not in ("targets", "fallbacks", "price_usd_per_mtok") and key not in LIMIT_KEYS
}
