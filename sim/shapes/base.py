"""What the server tells a shape, and what a shape must be able to word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not the one that was asked for."""

    status: int
    body: Json | str  # a string goes out as text/plain
    headers: tuple[tuple[str, str], ...] = ()
    in_band: Json | None = None  # on a stream: say 200 and put this error into it instead
    fatal: bool = False  # the real engine dies of it: no answer, and the process is gone


class RefusedError(Exception):
    """Raised by the reading of a request."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.status)


@dataclass(slots=True)
class Call:
    """One request to generate, read and checked."""

    kind: str  # chat | completion
    id: str
    created: int
    model: str  # as it will be named in the answer
    contexts: list[bytes]  # one per prompt
    prompt_ids: list[list[int]]
    max_tokens: int
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    continuous_usage: bool = False
    stop: tuple[str, ...] = ()
    sampled: bool = False
    seed: int | None = None
    logprobs: int | None = None  # how many alternatives; None: no logprobs
    echo: bool = False
    return_token_ids: bool = False
    ignore_eos: bool = False
    role: str = "assistant"
    partial: str = ""  # of the answer that is being continued


@dataclass(slots=True)
class Choice:
    """What one choice has so far."""

    index: int
    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0


@dataclass(slots=True)
class Piece:
    """What one event of a stream adds to its choice."""

    choice: Choice
    text: str
    ids: list[int]
    logprobs: list[Json] | None
    first: bool
    prompt_ids: list[int]


@dataclass(slots=True)
class EngineView:
    """Numbers for the metrics page."""

    model: str
    running: int
    waiting: int
    kv_ratio: float
    kv_tokens: int
    block_tokens: int
    context_tokens: int
    sequences: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    iterations: int
    output_tokens_per_s: float
    finished: dict[str, int]
    rejected: int
    aborted: int
    histograms: dict[str, Histogram]


class Histogram:
    """Cumulative buckets, as Prometheus wants them."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float) -> None:
        self.sum += value
        self.count += 1
        for i, bound in enumerate(self.bounds):
            if value <= bound:
                self.counts[i] += 1
                return
        self.counts[-1] += 1

    def lines(self, name: str, labels: str) -> list[str]:
        """``labels`` without braces, may be empty."""
        comma = "," if labels else ""
        braces = f"{{{labels}}}" if labels else ""
        total = 0
        out = []
        for bound, count in zip([*map(float, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            out.append(f'{name}_bucket{{{labels}{comma}le="{bound}"}} {float(total)}')
        return [*out, f"{name}_count{braces} {float(self.count)}", f"{name}_sum{braces} {self.sum}"]


class Shape(ABC):
    """One kind of engine. Holds no state of requests."""

    name: str
    version: str
    #: name -> bucket bounds of the histograms that metrics() shows; the server fills them
    histogram_bounds: ClassVar[dict[str, tuple[float, ...]]]
    headers_at_once: bool  # sends status and headers of a stream before the first token
    aborts_unstreamed: bool  # stops generating when the client of a plain request leaves
    requests_per_connection: int | None = None
    head_health: bool = False
    #: how it ends running requests on SIGTERM: error | finish | silence
    drains_by: str
    #: what its JSON answers have behind ``application/json``
    json_suffix: str = ""
    #: it wants to be told that a body is JSON
    minds_content_type: bool = True
    #: /health generates a token and takes this long
    health_s: float = 0.0
    #: it continues a trailing assistant message unasked
    continues_unasked: bool = False
    #: an answer that goes on has the role of the last message, whatever it is
    keeps_last_role: bool = False
    #: the model a request is for that names none; None: the one that is served
    default_model: str | None = None
    #: knows ``echo`` and ``return_token_ids``
    tells_tokens: bool = True
    #: takes token ids for a prompt, and several prompts
    takes_token_ids: bool = True
    #: the only fields that a request may have; None: any
    fields: frozenset[str] | None = None
    #: one choice, however many are asked for
    always_one: bool = False
    #: a stream ends with ``[DONE]``
    ends_with_done: bool = True
    #: an answer without a maximum may fill the context on /v1/completions, too; else it has 16 tokens
    completes_to_the_end: bool = False
    #: output tokens of a request that asks for none
    tokens_for_zero: int = 1
    #: answers ``endpoint-load-metrics-format`` with its load
    reports_load: bool = False
    #: refuses a request whose prompt and maximum together are over the context
    counts_maximum: bool = False

    def __init__(self, model: str, context_tokens: int, sequences: int) -> None:
        self.model = model
        self.context_tokens = context_tokens
        self.sequences = sequences

    @abstractmethod
    def headers(self, *, stream: bool, status: int) -> dict[str, str]: ...

    @abstractmethod
    def new_id(self, kind: str, asked: str | None) -> str:
        """``asked`` is the request's X-Request-Id."""

    @abstractmethod
    def refuse(self, kind: str, **facts: Any) -> Refusal | None:
        """How this engine turns down a request; None: it does not mind. ``kind``: see reading.py."""

    def logprob(self, token: int, text: bytes, value: float) -> Json:
        """One token of a list of log probabilities."""
        return {"token": text.decode(errors="replace"), "logprob": value, "bytes": list(text)}

    @abstractmethod
    def error_event(self, message: str, status: int) -> Json:
        """A failure inside a stream."""

    @abstractmethod
    def answer(self, call: Call, choices: list[Choice]) -> Json: ...

    @abstractmethod
    def events(self, call: Call, piece: Piece) -> list[list[Json]]:
        """The chunks, each a list of events, that carry ``piece``; its choice may have just finished."""

    @abstractmethod
    def last_events(self, call: Call, choices: list[Choice]) -> list[Json]:
        """What comes before ``[DONE]``."""

    @abstractmethod
    def models(self, created: int) -> Json: ...

    @abstractmethod
    def embeddings(self, model: str, vectors: list[Any], prompt_tokens: int, created: int) -> Json: ...

    @abstractmethod
    def tokenized(self, ids: list[int], strings: list[str] | None) -> Json: ...

    @abstractmethod
    def detokenized(self, text: str) -> Json: ...

    @abstractmethod
    def health(self) -> bytes: ...

    @abstractmethod
    def metrics(self, view: EngineView) -> str | None:
        """The page; None: the engine has none."""

    metrics_content_type: str

    def pages(self, view: EngineView) -> dict[str, Any]:
        """Further GET pages: path -> JSON."""
        return {}
