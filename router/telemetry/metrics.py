"""Every metric of the router, once: its name, kind, labels and meaning. docs/metrics.md is this table."""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import NamedTuple

from router.core.continuable import REASONS
from router.core.gpu_use import GPU_STATES
from router.core.health import State
from router.core.limits import SUMS
from router.core.outcomes import Outcome
from router.core.scopes import SCOPES
from router.core.spending import THRESHOLDS
from router.telemetry import gen_ai
from router.telemetry.history import KINDS
from router.telemetry.journal import LIMITS, REFUSED, RETRIES

#: Ten steps for each power of ten, each about a quarter above the one before: a quantile can be read that precisely.
_TENTHS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0)


def _steps(*powers: int) -> tuple[float, ...]:
    return tuple(float(f"{step}e{power}") for power in powers for step in _TENTHS)


#: Close together where users notice a difference, wide elsewhere. At most 40: each is a line in every series.
_WAITS_S = (0.005, *_steps(-2, -1, 0), 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_TOKENS_S = (0.001, *_steps(-3)[3:], *_steps(-2), 0.1, 0.125, 0.16, 0.2, 0.5, 1.0, 5.0)
_OWN_SHARE_S = (*_steps(-4)[::2], *_steps(-3)[::2], 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_ROUGHLY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

_GEN_AI_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")


class MetricSpec(NamedTuple):
    """``values``: all values of a label, where these are a fixed list."""

    name: str
    kind: str  # counter | gauge | histogram
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    values: tuple[tuple[str, tuple[str, ...]], ...] = ()


_SCOPE = ("scope", tuple(scope.name for scope in SCOPES))
_PERIOD = ("period", tuple(period.name for _, period in SUMS))
_OUTCOMES = tuple(outcome.value for outcome in Outcome)
#: The scope of a refusal that no limit is the reason of.
REFUSED_BY_NOBODY = "none"
DIRECTIONS = ("prompt", "output", "cached")
#: Why spans are lost.
DROPPED = ("queue_full", "rejected", "refused", "unreachable")


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "router_requests_total",
        "counter",
        ("model", "region", "backend", "code", "cause"),
        "Requests answered, by HTTP status and by how they ended; region and backend of the last attempt.",
        values=(("cause", (*_OUTCOMES, REFUSED)),),
    ),
    MetricSpec(
        "router_ttft_seconds",
        "histogram",
        ("model", "region", "backend"),
        "From arrival to the first content token sent to the client, of streams only.",
        _WAITS_S,
    ),
    MetricSpec(
        "router_request_duration_seconds",
        "histogram",
        ("model", "region"),
        "From arrival to the last byte of the answer.",
        _WAITS_S,
    ),
    MetricSpec(
        "router_itl_seconds",
        "histogram",
        ("model", "region"),
        "Mean time between two output tokens of a streamed answer.",
        _TOKENS_S,
    ),
    MetricSpec(
        "router_dispatch_seconds",
        "histogram",
        ("model",),
        "From arrival until the first attempt was sent: the router's own share, the wait for a place included.",
        _OWN_SHARE_S,
    ),
    MetricSpec(
        "router_queue_wait_seconds",
        "histogram",
        ("model",),
        "Time a request waited because every usable backend was full; requests that did not wait are not in it.",
        _ROUGHLY_S,
    ),
    MetricSpec(
        "router_tokens_total",
        "counter",
        ("model", "region", "direction"),
        "LLM tokens; cached is the part of prompt that a prefix cache spared.",
        values=(("direction", DIRECTIONS),),
    ),
    MetricSpec(
        "router_attempts_total",
        "counter",
        ("region", "backend", "outcome"),
        "Attempts at backends, by outcome.",
        values=(("outcome", _OUTCOMES),),
    ),
    MetricSpec(
        "router_retries_total",
        "counter",
        ("region", "backend", "kind"),
        "Attempts after the first.",
        values=(("kind", RETRIES),),
    ),
    MetricSpec(
        "router_streams_cut_total",
        "counter",
        ("reason",),
        "Streams that ended early, with an error in band, because no backend could continue them.",
        values=(("reason", tuple(REASONS)),),
    ),
    MetricSpec(
        "router_repetitions_total",
        "counter",
        ("model", "action"),
        "Streams whose text repeated itself, by what was done about it: see loop_guard of a plan.",
        values=(("action", ("observed", "stopped")),),
    ),
    MetricSpec(
        "router_ttft_prediction_error_seconds",
        "histogram",
        ("region", "backend"),
        "Absolute difference between the predicted and the observed time to first token of an attempt.",
        _ROUGHLY_S,
    ),
    MetricSpec(
        "router_quota_refusals_total",
        "counter",
        ("limit", "scope"),
        "Requests refused because a limit was used up, by whose it was; store: the store was away and on_down is deny.",
        values=(("limit", LIMITS), ("scope", (*(scope.name for scope in SCOPES), REFUSED_BY_NOBODY))),
    ),
    MetricSpec(
        "gen_ai_server_request_duration_seconds",
        "histogram",
        (*_GEN_AI_LABELS, "error_type"),
        "From arrival to the last byte of the answer. As OpenTelemetry's conventions have it.",
        gen_ai.WHOLE_S,
    ),
    MetricSpec(
        "gen_ai_server_time_to_first_token_seconds",
        "histogram",
        _GEN_AI_LABELS,
        "From arrival to the first content token, of streams that went well. As OpenTelemetry's conventions have it.",
        gen_ai.FIRST_S,
    ),
    MetricSpec(
        "gen_ai_server_time_per_output_token_seconds",
        "histogram",
        _GEN_AI_LABELS,
        "Mean time between two output tokens, of streams that went well. As OpenTelemetry's conventions have it.",
        gen_ai.TOKEN_S,
    ),
    MetricSpec(
        "gen_ai_client_token_usage",
        "histogram",
        (*_GEN_AI_LABELS, "gen_ai_token_type"),
        "Tokens of a request that went well. As OpenTelemetry's conventions have it.",
        gen_ai.TOKENS,
        values=(("gen_ai_token_type", gen_ai.TOKEN_TYPES),),
    ),
    MetricSpec(
        "router_cost_usd_total",
        "counter",
        ("model", "region", "tenant"),
        "What answers cost in US dollars, by the prices of the configuration. Tenants beyond the first 200 are other.",
    ),
    MetricSpec(
        "router_budget_thresholds_total",
        "counter",
        ("scope", "period", "percent"),
        "Thresholds of budgets that this router has announced; each is announced once, by one router.",
        values=(_SCOPE, _PERIOD, ("percent", tuple(map(str, THRESHOLDS)))),
    ),
    MetricSpec(
        "router_budget_usd",
        "gauge",
        ("scope", "name", "period", "figure"),
        "Budgets, of 200 accounts at most: the limit, what is spent, and the forecast for the end of the period.",
        values=(_SCOPE, _PERIOD, ("figure", ("limit", "spent", "forecast"))),
    ),
    MetricSpec(
        "router_webhooks_total",
        "counter",
        ("result",),
        "Alerts for the webhook of [alerts]: delivered, tried again, given up, or dropped because too many wait.",
        values=(("result", ("delivered", "retried", "given_up", "dropped")),),
    ),
    MetricSpec(
        "router_inflight", "gauge", ("region", "backend"), "Attempts this router has in flight, streams included."
    ),
    MetricSpec(
        "router_backend_state",
        "gauge",
        ("region", "backend", "state"),
        "1 for the state the backend is in.",
        values=(("state", tuple(state.value for state in State)),),
    ),
    MetricSpec(
        "router_backend_transitions_total",
        "counter",
        ("region", "backend", "state"),
        "How often the backend came to the state; `router events` says why.",
        values=(("state", tuple(state.value for state in State)),),
    ),
    MetricSpec("router_backend_usable", "gauge", ("region", "backend"), "1 when requests may be sent there."),
    MetricSpec("router_backend_draining", "gauge", ("region", "backend"), "1 while an operator drains it."),
    MetricSpec(
        "router_backend_continues",
        "gauge",
        ("region", "backend"),
        "How it can continue answers of others: 2 after tokens too, 1 after a text, 0 not. Missing while unknown.",
    ),
    MetricSpec("router_backend_leaving", "gauge", ("region", "backend"), "1 from its notice on, until it is back."),
    MetricSpec(
        "router_backend_asleep",
        "gauge",
        ("region", "backend"),
        "1 while it does not run on purpose: a request wakes it. 0 when it cannot be woken.",
    ),
    MetricSpec("router_backend_ready", "gauge", ("region", "backend"), "0 while its source says that it is not ready."),
    MetricSpec("router_backend_rtt_seconds", "gauge", ("region", "backend"), "Mean round trip of the probes."),
    MetricSpec(
        "router_backend_scrape_age_seconds", "gauge", ("region", "backend"), "Age of the last reading of its metrics."
    ),
    MetricSpec("router_backend_running", "gauge", ("region", "backend"), "Requests the engine says it is running."),
    MetricSpec("router_backend_waiting", "gauge", ("region", "backend"), "Requests the engine says are waiting."),
    MetricSpec(
        "router_backend_kv_ratio", "gauge", ("region", "backend"), "KV cache in use, 0 to 1, as the engine says."
    ),
    MetricSpec("router_backend_gpus", "gauge", ("region", "backend"), "GPUs on the page that gpu_metrics names."),
    MetricSpec(
        "router_backend_gpu_busy_ratio", "gauge", ("region", "backend"), "How busy its GPUs are on average, 0 to 1."
    ),
    MetricSpec("router_backend_gpu_memory_ratio", "gauge", ("region", "backend"), "Memory of its GPUs in use, 0 to 1."),
    MetricSpec("router_backend_gpu_power_watts", "gauge", ("region", "backend"), "What its GPUs draw together."),
    MetricSpec(
        "router_backend_gpu_idle_usd_per_hour",
        "gauge",
        ("region", "backend"),
        "The part of cost_usd_hour that is paid for GPUs which do nothing.",
    ),
    MetricSpec(
        "router_backend_gpu_state",
        "gauge",
        ("region", "backend", "state"),
        "1 for how its GPUs stand; `router regions show` says why.",
        values=(("state", GPU_STATES),),
    ),
    MetricSpec("router_backends_there", "gauge", ("region", "model"), "Backends of a model that may be sent requests."),
    MetricSpec(
        "router_backends_needed",
        "gauge",
        ("region", "model"),
        "Backends that keep 95 % of first tokens within the target, also when a new one has started; for autoscalers.",
    ),
    MetricSpec("router_backends_short", "gauge", ("region", "model"), "Backends that are needed and not there."),
    MetricSpec(
        "router_backends_idle_usd_per_hour",
        "gauge",
        ("region", "model"),
        "What backends cost that are not needed; without a target, that had no request for a minute.",
    ),
    MetricSpec(
        "router_requests_per_second",
        "gauge",
        ("region", "model"),
        "Requests that all routers send to the backends of a model, over about the last 10 s.",
    ),
    MetricSpec(
        "router_ttft_target_seconds", "gauge", ("region", "model"), "The configured target of 95 % of first tokens."
    ),
    MetricSpec(
        "router_ttft_predicted_seconds",
        "gauge",
        ("region", "model"),
        "What 95 % of first tokens stay below, by prediction, with the backends that are there.",
    ),
    MetricSpec(
        "router_backend_standing",
        "gauge",
        ("region", "backend", "model", "state"),
        "1 for a backend that is full, or gets far less than its siblings. `router capacity` says why.",
        values=(("state", ("saturated", "starved")),),
    ),
    MetricSpec(
        "router_wake_calls_total",
        "counter",
        ("model", "action"),
        "Calls that woke or started backends of a model of which nothing ran, or that ended them.",
        values=(("action", ("wake", "sleep")),),
    ),
    MetricSpec(
        "router_wake_failures_total",
        "counter",
        ("model", "action"),
        "Those of them that failed, and those after which nothing ran in time; `router status` says why.",
        values=(("action", ("wake", "sleep")),),
    ),
    MetricSpec("router_wake_failing", "gauge", ("model",), "1 while a model of which nothing runs cannot be woken."),
    MetricSpec(
        "router_degraded_requests_total",
        "counter",
        ("model", "variant"),
        "Requests that were given a smaller variant because the model was overloaded.",
    ),
    MetricSpec(
        "router_model_strained",
        "gauge",
        ("model",),
        "1 while first tokens of a model are predicted after its target everywhere, and its smaller variants are used.",
    ),
    MetricSpec(
        "router_events_total",
        "counter",
        ("kind",),
        "Events of the history that this router has noted.",
        values=(("kind", tuple(KINDS)),),
    ),
    MetricSpec("router_queue_length", "gauge", ("model",), "Requests that wait for a place, or for a backend."),
    MetricSpec("router_connections", "gauge", (), "Client connections."),
    MetricSpec("router_buffered_bytes", "gauge", (), "Request bodies held."),
    MetricSpec("router_jwks_keys", "gauge", (), "Public keys of the issuer of JWTs that are known."),
    MetricSpec("router_jwks_age_seconds", "gauge", (), "Since these keys were last read."),
    MetricSpec("router_store_up", "gauge", (), "1 when the shared store answers, 0 while it is away."),
    MetricSpec("router_routers_gone", "gauge", (), "Routers that died within the last hour and are not back."),
    MetricSpec("router_source_up", "gauge", ("source", "kind"), "0 while a source of backends cannot be heard."),
    MetricSpec("router_source_backends", "gauge", ("source", "kind"), "Backends that are there because of a source."),
    MetricSpec(
        "router_source_backends_in_use", "gauge", ("source", "kind"), "Those of them that are ready and do not leave."
    ),
    MetricSpec("router_loop_lag_seconds", "gauge", (), "Longest delay of the event loop within the last 10 s."),
    MetricSpec(
        "router_config_generation", "gauge", (), "How many configurations have been in force, this one included."
    ),
    MetricSpec(
        "router_config_last_reload_successful",
        "gauge",
        (),
        "1 while the configuration in force is the last one that was read, 0 while that one is refused.",
    ),
    MetricSpec(
        "router_config_last_reload_timestamp_seconds",
        "gauge",
        (),
        "When a configuration was last read, refused or not: seconds since 1970.",
    ),
    MetricSpec(
        "router_log_lines_dropped_total",
        "counter",
        ("file",),
        "Lines lost because writing was too slow, or failed.",
        values=(("file", ("log", "journal")),),
    ),
    MetricSpec("router_spans_sent_total", "counter", (), "Spans that the collector of traces has taken."),
    MetricSpec(
        "router_spans_dropped_total",
        "counter",
        ("reason",),
        "Spans that were lost: too many waited, the collector took only some of a batch, refused it, or was away.",
        values=(("reason", DROPPED),),
    ),
    MetricSpec("router_workers", "gauge", (), "Worker processes that serve clients."),
    MetricSpec("router_worker_deaths_total", "counter", (), "Worker processes that died and were replaced."),
    MetricSpec("router_build_info", "gauge", ("version",), "Always 1."),
)

SPECS: dict[str, MetricSpec] = {m.name: m for m in METRICS}

#: Figures of several workers about the same thing become one series. Every other metric has a series for each
#: worker, with the label ``worker``, so that none falls or counts twice when a worker dies and another begins at zero.
ACROSS_WORKERS: dict[str, Callable[[float, float], float]] = {
    "router_backend_state": max,  # 1 for every state that some worker sees
    "router_backend_usable": max,
    "router_backend_draining": max,
    "router_backend_continues": min,
    "router_backend_leaving": max,
    "router_backend_asleep": min,
    "router_backend_ready": min,
    "router_source_up": min,
    "router_source_backends": max,
    "router_source_backends_in_use": max,
    "router_backend_rtt_seconds": max,
    "router_backend_scrape_age_seconds": max,
    "router_backend_running": max,
    "router_backend_waiting": max,
    "router_backend_kv_ratio": max,
    "router_backend_gpus": max,
    "router_backend_gpu_busy_ratio": max,
    "router_backend_gpu_memory_ratio": max,
    "router_backend_gpu_power_watts": max,
    "router_backend_gpu_idle_usd_per_hour": min,
    "router_backend_gpu_state": max,
    "router_backends_there": max,
    "router_backends_needed": max,
    "router_backends_short": max,
    "router_backends_idle_usd_per_hour": min,
    "router_budget_usd": max,
    "router_requests_per_second": max,
    "router_ttft_target_seconds": max,
    "router_ttft_predicted_seconds": max,
    "router_backend_standing": max,
    "router_wake_failing": max,
    "router_model_strained": max,
    "router_store_up": min,
    "router_routers_gone": max,
    "router_config_generation": max,
    "router_workers": add,
    "router_build_info": max,
}


class GaugeSample(NamedTuple):
    """A value read at scrape time. ``name`` is one of METRICS, ``labels`` in that metric's order."""

    name: str
    labels: tuple[str, ...]
    value: float


def table() -> str:
    """METRICS as the Markdown table of docs/metrics.md."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels) or '-'} | {m.help}{_words(m)} |"
        for m in METRICS
    ]
    return "\n".join(lines)


def _words(spec: MetricSpec) -> str:
    return "".join(f" `{label}`: {', '.join(f'`{v}`' for v in values)}." for label, values in spec.values)
