"""What is known of the times of a backend, learned from probes and from the first tokens that really came.

The model of one backend and one model name, for a request that meets ``tokens`` (uncached prompt tokens ahead of it and
its own) and ``requests`` (already in the engine):

    ttft_s = rtt + overhead_s + tokens * token_s + requests * busy_s + residual_s

``overhead_s``, ``token_s`` and ``busy_s`` come from a least-squares fit over exponentially forgotten samples, held to a
prior (ridge): without samples the prior decides, and it decides again when samples have been forgotten. ``residual_s``
is an EWMA of what the fit does not explain; it follows a sudden change within a few samples and fades without them.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

from router.core.params import Params


class RttEstimate:
    """Mean and floor of the round trip. ``mean_s`` None: never measured."""

    __slots__ = ("_before_s", "_current_s", "_weight", "_window_from_s", "_window_s", "at_s", "mean_s")

    def __init__(self, params: Params) -> None:
        self._weight = params.rtt_weight
        self._window_s = params.rtt_floor_window_s
        self.mean_s: float | None = None
        self.at_s = float("-inf")
        self._current_s = self._before_s = float("inf")
        self._window_from_s = float("-inf")

    @property
    def floor_s(self) -> float | None:
        """The smallest of the last one to two windows: the path without queues."""
        floor_s = min(self._current_s, self._before_s)
        return None if floor_s == float("inf") else floor_s

    def age_s(self, now_s: float) -> float:
        return now_s - self.at_s

    def add(self, rtt_s: float, now_s: float) -> None:
        if now_s - self._window_from_s >= self._window_s:
            self._before_s, self._current_s = self._current_s, float("inf")
            self._window_from_s = now_s
        self._current_s = min(self._current_s, rtt_s)
        self.mean_s = rtt_s if self.mean_s is None else self.mean_s + self._weight * (rtt_s - self.mean_s)
        self.at_s = now_s


class Line(NamedTuple):
    """The fitted coefficients: what an engine needs for anything, per uncached token, per request in the batch."""

    overhead_s: float
    token_s: float
    busy_s: float

    def predict_s(self, tokens: float, requests: float) -> float:
        return self.overhead_s + tokens * self.token_s + requests * self.busy_s


def prior_line(params: Params) -> Line:
    return Line(params.overhead_prior_s, 1.0 / params.prefill_prior_tokens_per_s, params.interference_prior_s)


class TtftFit:
    """Learns a ``Line`` and its residual from first tokens.

    ``add`` is called per request and costs a dozen additions; ``solve`` is called now and then and costs a small linear
    system.
    """

    __slots__ = (
        "_n",
        "_params",
        "_solved_s",
        "_sr",
        "_srr",
        "_sry",
        "_sx",
        "_sxr",
        "_sxx",
        "_sxy",
        "_sy",
        "at_s",
        "error_s",
        "line",
        "residual_s",
    )

    def __init__(self, params: Params, line: Line, now_s: float) -> None:
        self._params = params
        self._solved_s = now_s
        self._n = self._sx = self._sr = self._sy = 0.0
        self._sxx = self._sxr = self._srr = self._sxy = self._sry = 0.0
        self.line = line
        self.residual_s = 0.0
        #: EWMA of |seen - predicted| of the whole ttft, for operators
        self.error_s = 0.0
        #: time of the last sample
        self.at_s = float("-inf")

    @property
    def samples(self) -> float:
        """Samples that are not forgotten yet."""
        return self._n

    @property
    def typical(self) -> tuple[float, float]:
        """(tokens, requests) of the mean sample."""
        return (self._sx / self._n, self._sr / self._n) if self._n else (0.0, 0.0)

    def add(self, tokens: float, requests: float, net_s: float, error_s: float, now_s: float) -> None:
        """A first token came ``net_s`` after its request, the network taken off; ``error_s`` later than predicted."""
        overhead_s, token_s, busy_s = self.line
        fitted_s = overhead_s + tokens * token_s + requests * busy_s
        params = self._params
        most_s = fitted_s * params.outlier_factor + params.outlier_slack_s
        net_s = most_s if net_s > most_s else net_s if net_s > 0.0 else 0.0
        self.residual_s += params.residual_weight * (net_s - fitted_s - self.residual_s)
        self._n += 1.0
        self._sx += tokens
        self._sr += requests
        self._sy += net_s
        self._sxx += tokens * tokens
        self._sxr += tokens * requests
        self._srr += requests * requests
        self._sxy += tokens * net_s
        self._sry += requests * net_s
        self.at_s = now_s
        self.error_s += params.error_weight * (abs(error_s) - self.error_s)

    def drift(self, error_s: float, now_s: float) -> None:
        """A sample that cannot place the line, only say how far off it was: a wait for a place, a timeout."""
        params = self._params
        bounded_s = max(-params.outlier_slack_s, min(error_s, params.outlier_slack_s))
        self.residual_s += params.residual_weight * bounded_s
        self.at_s = now_s
        self.error_s += params.error_weight * (abs(error_s) - self.error_s)

    def solve(self, prior: Line, now_s: float) -> None:
        """Bring ``line`` up to date with the samples, held to ``prior``."""
        params = self._params
        self._forget(exp((self._solved_s - now_s) / params.fit_memory_s))
        self._solved_s = now_s
        weight = params.prior_samples
        weight_x = weight * params.prior_spread_tokens**2
        weight_r = weight * params.prior_spread_requests**2
        line = Line(
            *solve_bounded(
                (
                    (self._n + weight, self._sx, self._sr),
                    (self._sx, self._sxx + weight_x, self._sxr),
                    (self._sr, self._sxr, self._srr + weight_r),
                ),
                (
                    self._sy + weight * prior.overhead_s,
                    self._sxy + weight_x * prior.token_s,
                    self._sry + weight_r * prior.busy_s,
                ),
                (
                    (0.0, params.overhead_max_s),
                    (1.0 / params.prefill_max_tokens_per_s, 1.0 / params.prefill_min_tokens_per_s),
                    (0.0, params.interference_max_s),
                ),
            )
        )
        if self._n:
            # What the line has just learned must not be counted a second time in the residual.
            tokens, requests = self.typical
            self.residual_s -= line.predict_s(tokens, requests) - self.line.predict_s(tokens, requests)
        self.line = line

    def _forget(self, keep: float) -> None:
        if self._n * keep > self._params.fit_samples_max:
            keep = self._params.fit_samples_max / self._n
        self._n *= keep
        self._sx *= keep
        self._sr *= keep
        self._sy *= keep
        self._sxx *= keep
        self._sxr *= keep
        self._srr *= keep
        self._sxy *= keep
        self._sry *= keep


Row = tuple[float, float, float]


def solve_bounded(
    matrix: tuple[Row, Row, Row], right: Row, bounds: tuple[tuple[float, float], ...]
) -> tuple[float, float, float]:
    """Solve a symmetric positive definite system of three, each unknown kept inside its bounds.

    An unknown that leaves its bounds is pinned to the one it crossed, the last unknown first, and the others are solved
    again. That is not always the constrained optimum, but always feasible, and it is in three steps.
    """
    pinned: dict[int, float] = {}
    while True:
        free = [i for i in range(3) if i not in pinned]
        solution = _eliminate(
            [[matrix[i][j] for j in free] for i in free],
            [right[i] - sum(matrix[i][j] * value for j, value in pinned.items()) for i in free],
        )
        for i, value in zip(reversed(free), reversed(solution), strict=True):
            low, high = bounds[i]
            if not low <= value <= high:
                pinned[i] = low if value < low else high
                break
        else:
            values = {**pinned, **dict(zip(free, solution, strict=True))}
            return values[0], values[1], values[2]


def _eliminate(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss without pivoting: the matrix is positive definite. Both arguments are consumed."""
    size = len(right)
    for k in range(size):
        for i in range(k + 1, size):
            factor = matrix[i][k] / matrix[k][k]
            for j in range(k, size):
                matrix[i][j] -= factor * matrix[k][j]
            right[i] -= factor * right[k]
    for k in reversed(range(size)):
        right[k] = (right[k] - sum(matrix[k][j] * right[j] for j in range(k + 1, size))) / matrix[k][k]
    return right


class Service:
    """How an engine serves what it has accepted: decode time of an answer, places in its batch, rates.

    The places are learned: an engine that serves the same number in scrape after scrape while others wait has that many
    places for now, and so has one whose KV cache is full. Waiting alone is no proof: a request waits for the prefill of
    others, too. Until there is proof the places are unknown, and unknown means no predicted wait.

    Rates are exponentially forgotten counts: an event adds ``1 / rate_memory_s``, a tick takes off what has aged.
    """

    __slots__ = (
        "_full_scrapes",
        "_params",
        "_rated_s",
        "_requests",
        "_running",
        "_tokens",
        "asked_per_s",
        "asked_tokens_per_s",
        "mean_s",
        "output_tokens_per_s",
        "slots",
        "slots_at_s",
    )

    def __init__(self, params: Params, now_s: float, requests_total: int = 0, tokens_total: int = 0) -> None:
        self._params = params
        #: mean time from first to last token
        self.mean_s = params.service_prior_s
        self.slots = float("inf")
        self.slots_at_s = float("-inf")
        self._full_scrapes = 0  # in a row
        self._running = 0.0  # in the last of them
        #: what we send there, requests and uncached prompt tokens
        self.asked_per_s = 0.0
        self.asked_tokens_per_s = 0.0
        #: what we saw delivered
        self.output_tokens_per_s = 0.0
        self._rated_s = now_s
        self._requests = requests_total
        self._tokens = tokens_total

    def answered(self, decode_s: float, output_tokens: int) -> None:
        params = self._params
        self.mean_s += params.service_weight * (max(decode_s, params.service_min_s) - self.mean_s)
        self.output_tokens_per_s += output_tokens / params.rate_memory_s

    def seen(self, running: float, waiting: float, kv_ratio: float | None, now_s: float) -> None:
        """A scrape told how many it serves, how many it lets wait, and how full its KV cache is."""
        params = self._params
        if waiting < 1.0 or running < 1.0:
            self._full_scrapes = 0
        elif running == self._running or (kv_ratio is not None and kv_ratio >= params.kv_full_ratio):
            self._full_scrapes += 1
        else:
            self._full_scrapes = 1
        self._running = running
        if self._full_scrapes >= params.slots_scrapes:
            self.slots = running
            self.slots_at_s = now_s
        elif running > self.slots:
            self.slots = float("inf")

    def tick(self, now_s: float, requests_total: int, tokens_total: int) -> int:
        """Bring the rates up to date with the counts so far. Returns how many requests were new."""
        memory_s = self._params.rate_memory_s
        requests, tokens = requests_total - self._requests, tokens_total - self._tokens
        self._requests, self._tokens = requests_total, tokens_total
        keep = exp((self._rated_s - now_s) / memory_s)
        self._rated_s = now_s
        self.asked_per_s = self.asked_per_s * keep + requests / memory_s
        self.asked_tokens_per_s = self.asked_tokens_per_s * keep + tokens / memory_s
        self.output_tokens_per_s *= keep
        if now_s - self.slots_at_s > self._params.slots_memory_s:
            self.slots = float("inf")
        return requests

    @property
    def place_s(self) -> float:
        """Seconds until the next place is free, when all are taken."""
        return self.mean_s / self.slots
