"""What is known of the times of a backend, learned from probes and from the first tokens that really came.

The model of one backend and one model name, for a request that meets ``tokens`` (uncached prompt tokens ahead of it and
its own), their ``mpairs`` (millions of pairs with the tokens before them, which is what attention computes) and
``requests`` (already in the engine):

    ttft_s = rtt + overhead_s + tokens * token_s + mpairs * attention_s + requests * busy_s + residual_s

``overhead_s``, ``token_s``, ``busy_s`` and ``attention_s`` come from one least-squares fit over the exponentially
forgotten samples of all backends of the model, held to a first guess (ridge), times the ``pace`` of the backend: how
long its samples took by that line. One number of its own is what a backend's samples can place: four of its own gave
equal engines slopes ten times apart, and requests moved from one to the other for nothing.
``residual_s`` is an EWMA of what the fit does not explain; it follows a sudden change within a few samples and fades
without them. Only requests that waited for themselves more than for others teach the fit; the others teach ``Backlog``.
The time between the tokens of an answer is learned in the same way, see ``Service``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, log
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
    """The fitted coefficients: for anything, per uncached token, per request in the batch, per million pairs."""

    overhead_s: float
    token_s: float
    busy_s: float
    attention_s: float = 0.0

    def predict_s(self, tokens: float, requests: float, mpairs: float = 0.0) -> float:
        return self.overhead_s + tokens * self.token_s + requests * self.busy_s + mpairs * self.attention_s

    def times(self, factor: float) -> Line:
        overhead_s, token_s, busy_s, attention_s = self
        return Line(overhead_s * factor, token_s * factor, busy_s * factor, attention_s * factor)


def prior_line(params: Params) -> Line:
    return Line(
        params.overhead_prior_s,
        1.0 / params.prefill_prior_tokens_per_s,
        params.interference_prior_s,
        params.attention_prior_s,
    )


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
        "_sxz",
        "_sy",
        "_sz",
        "_szr",
        "_szy",
        "_szz",
        "at_s",
        "common",
        "error_s",
        "line",
        "pace",
        "residual_s",
    )

    def __init__(self, params: Params, line: Line, now_s: float) -> None:
        self._params = params
        self._solved_s = now_s
        self._n = self._sx = self._sr = self._sy = 0.0
        self._sxx = self._sxr = self._srr = self._sxy = self._sry = 0.0
        self._sz = self._szz = self._sxz = self._szr = self._szy = 0.0
        #: what the backends of the model have in common
        self.common = line
        #: times what its samples take by that line
        self.pace = 1.0
        #: the line at that pace
        self.line = line
        self.residual_s = 0.0
        #: EWMA of |seen - predicted| of the whole ttft, for operators
        self.error_s = 0.0
        #: time of the last sample
        self.at_s = float("-inf")

    @property
    def params(self) -> Params:
        return self._params

    @property
    def samples(self) -> float:
        """Samples that are not forgotten yet."""
        return self._n

    @property
    def typical(self) -> tuple[float, float, float]:
        """(tokens, requests, mpairs) of the mean sample."""
        return (self._sx / self._n, self._sr / self._n, self._sz / self._n) if self._n else (0.0, 0.0, 0.0)

    def add(
        self, tokens: float, requests: float, net_s: float, error_s: float, now_s: float, *, mpairs: float = 0.0
    ) -> None:
        """A first token came ``net_s`` after its request, the network taken off; ``error_s`` later than predicted."""
        overhead_s, token_s, busy_s, attention_s = self.line
        fitted_s = overhead_s + tokens * token_s + requests * busy_s + mpairs * attention_s
        params = self._params
        most_s = fitted_s * params.outlier_factor + params.outlier_slack_s
        net_s = most_s if net_s > most_s else net_s if net_s > 0.0 else 0.0
        self.residual_s += params.residual_weight * (net_s - fitted_s - self.residual_s)
        weight = 1.0 if net_s <= fitted_s else params.late_sample_weight
        x, r, z = weight * tokens, weight * requests, weight * mpairs
        self._n += weight
        self._sx += x
        self._sr += r
        self._sy += weight * net_s
        self._sxx += x * tokens
        self._sxr += x * requests
        self._srr += r * requests
        self._sxy += x * net_s
        self._sry += r * net_s
        self._sz += z
        self._szz += z * mpairs
        self._sxz += z * tokens
        self._szr += z * requests
        self._szy += z * net_s
        self.at_s = now_s
        self.error_s += params.error_weight * (abs(error_s) - self.error_s)

    def note(self, error_s: float, now_s: float) -> None:
        """A first token came that teaches nothing about the engine alone."""
        self.at_s = now_s
        self.error_s += self._params.error_weight * (abs(error_s) - self.error_s)

    def drift(self, error_s: float, now_s: float) -> None:
        """A sample that cannot place the line, only say how far off it was: a timeout."""
        params = self._params
        bounded_s = max(-params.outlier_slack_s, min(error_s, params.outlier_slack_s))
        self.residual_s += params.residual_weight * bounded_s
        self.at_s = now_s
        self.error_s += params.error_weight * (abs(error_s) - self.error_s)

    def begin_anew(self) -> None:
        """What was learned of this backend alone holds no longer."""
        self._forget(0.0)
        self.residual_s, self.pace, self.line = 0.0, 1.0, self.common

    def solve(self, common: Line, now_s: float) -> None:
        """Bring ``pace`` up to date with the samples, and with it ``line``, the multiple of ``common``."""
        params = self._params
        self.common = common
        if self._n:
            self._forget(exp((self._solved_s - now_s) / params.fit_memory_s))
        self._solved_s = now_s
        if not self._n:
            self.pace, self.line = 1.0, common
            return
        typical_s = common.predict_s(*self.typical)
        held_s = typical_s * params.pace_samples
        pace = (self._sy + held_s) / (self._n * typical_s + held_s) if typical_s > 0.0 else 1.0
        self.pace = min(max(pace, 1.0 / params.pace_max_factor), params.pace_max_factor)
        line = common.times(self.pace)
        if residual_s := self.residual_s:
            # What the line has just learned must not be counted a second time in the residual.
            learned_s = typical_s * self.pace - self.line.predict_s(*self.typical)
            self.residual_s -= min(max(learned_s, min(residual_s, 0.0)), max(residual_s, 0.0))
        self.line = line

    @property
    def sums(self) -> Sums:
        """Weighted sums over the samples: what a least-squares fit needs of them."""
        return (
            *(self._n, self._sx, self._sr, self._sz),
            *(self._sxx, self._sxr, self._sxz, self._srr, self._szr, self._szz),
            *(self._sy, self._sxy, self._sry, self._szy),
        )

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
        self._sz *= keep
        self._szz *= keep
        self._sxz *= keep
        self._szr *= keep
        self._szy *= keep


Sums = tuple[float, ...]
_TIMES = 10  # from there on the sums are multiples of times


def common_line(fits: Iterable[TtftFit], prior: Line, params: Params) -> Line:
    """What the backends of a model have in common: one fit over the samples of all of them, each at its own pace."""
    sums = tuple(map(sum, zip(*(_at_pace_one(fit) for fit in fits), strict=True)))
    return fitted_line(sums, prior, params) if sums else prior


def _at_pace_one(fit: TtftFit) -> Sums:
    sums = fit.sums
    return (*sums[:_TIMES], *(time_s / fit.pace for time_s in sums[_TIMES:]))


def fitted_line(sums: Sums, prior: Line, params: Params) -> Line:
    """Least squares over ``sums``, held to ``prior`` as if by some samples on it (ridge)."""
    samples = params.prior_samples
    n, sx, sr, sz, sxx, sxr, sxz, srr, szr, szz, sy, sxy, sry, szy = sums
    prior_x = samples * params.prior_spread_tokens**2
    prior_r = samples * params.prior_spread_requests**2
    prior_z = samples * params.prior_spread_mpairs**2
    return Line(
        *solve_bounded(
            (
                (n + samples, sx, sr, sz),
                (sx, sxx + prior_x, sxr, sxz),
                (sr, sxr, srr + prior_r, szr),
                (sz, sxz, szr, szz + prior_z),
            ),
            (
                sy + samples * prior.overhead_s,
                sxy + prior_x * prior.token_s,
                sry + prior_r * prior.busy_s,
                szy + prior_z * prior.attention_s,
            ),
            (
                (0.0, params.overhead_max_s),
                (1.0 / params.prefill_max_tokens_per_s, 1.0 / params.prefill_min_tokens_per_s),
                (0.0, params.interference_max_s),
                (0.0, params.attention_max_s),
            ),
        )
    )


def solve_bounded(
    matrix: Sequence[Sequence[float]], right: Sequence[float], bounds: Sequence[tuple[float, float]]
) -> tuple[float, ...]:
    """Solve a small symmetric positive definite system, each unknown kept inside its bounds.

    An unknown that leaves its bounds is pinned to the one it crossed, the last unknown first, and the others are solved
    again. That is not always the constrained optimum, but always feasible, and there are no more steps than unknowns.
    """
    pinned: dict[int, float] = {}
    while True:
        free = [i for i in range(len(right)) if i not in pinned]
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
            return tuple(values[i] for i in range(len(right)))


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


class Backlog:
    """How fast an engine works off the prompts that wait for it, compared with how fast it can.

    A request that met so much work waited so long: when that is longer than the work takes, something else holds the
    engine up: memory or places that are taken, answers in the batch, requests that nobody told us of.

    An engine that looks slow is sent nothing and so never seen to be quick again. So what was learned fades with time,
    towards what the model's backends have in common.
    """

    __slots__ = ("_common", "_n", "_params", "_seen_s", "_wait_s", "_work_s", "speed")

    def __init__(self, params: Params) -> None:
        self._params = params
        self._n = self._work_s = self._wait_s = 0.0
        self._common = 0.0  # a logarithm, see common_speed
        self._seen_s = float("-inf")
        #: seconds of work done in a second
        self.speed = 1.0

    def waited(self, work_s: float, wait_s: float, now_s: float) -> None:
        """A request with ``work_s`` ahead of it waited ``wait_s``."""
        # The more of it is replaced the more there is to tell.
        self._forget(exp((self._seen_s - now_s) / self._params.speed_memory_s) * self._params.speed_keep_ratio)
        self._seen_s = now_s
        self._n += 1.0
        self._work_s += work_s
        self._wait_s += wait_s
        self._judge()

    def fade(self, now_s: float) -> tuple[float, float]:
        """Forget what is old. Returns how many samples are left, and the logarithm of the speed they show."""
        if self._n:
            self._forget(exp((self._seen_s - now_s) / self._params.speed_memory_s))
            self._seen_s = now_s
        return self._n, self._seen

    def settle(self, common: float) -> None:
        """Hold the speed to what the model's backends have in common, see ``common_speed``."""
        if common != self._common or self._n:
            self._common = common
            self._judge()

    @property
    def _seen(self) -> float:
        prior_s = self._params.speed_prior_s
        return log((self._work_s + prior_s) / (self._wait_s + prior_s)) if self._n else 0.0

    def _judge(self) -> None:
        n, params = self._n, self._params
        speed = exp((n * self._seen + params.speed_samples * self._common) / (n + params.speed_samples))
        self.speed = min(max(speed, params.speed_min_ratio), params.speed_max_factor)

    def _forget(self, keep: float) -> None:
        self._n *= keep
        self._work_s *= keep
        self._wait_s *= keep


def common_speed(faded: Iterable[tuple[float, float]], params: Params) -> float:
    """The logarithm of the mean speed of the backlogs of a model: full speed where nobody has waited lately."""
    samples, sum_of_logs = params.speed_samples, 0.0
    for n, seen in faded:
        samples += n
        sum_of_logs += n * seen
    return sum_of_logs / samples


class Recent:
    """The mean of the latest times of one kind."""

    __slots__ = ("_memory_s", "_weight", "at_s", "mean_s", "samples")

    def __init__(self, params: Params) -> None:
        self._weight = params.whole_weight
        self._memory_s = params.fit_memory_s
        self.mean_s = 0.0
        #: how many there were, without a pause of ``fit_memory_s``
        self.samples = 0
        self.at_s = float("-inf")

    def begin_anew(self) -> None:
        self.samples = 0

    def add(self, time_s: float, now_s: float) -> None:
        if now_s - self.at_s > self._memory_s:
            self.begin_anew()
        self.samples += 1
        self.at_s = now_s
        weight = self._weight if self.samples * self._weight > 1.0 else 1.0 / self.samples
        self.mean_s += weight * (time_s - self.mean_s)

    def known(self, samples: float, since_s: float) -> bool:
        """Whether there are so many of them, the latest no older than ``since_s``."""
        return self.samples >= samples and self.at_s >= since_s


Pace = tuple[float, float]


def common_tokens(services: Iterable[Service], params: Params) -> float:
    """Tokens of a mean answer of any of them: how long answers are says nothing about who gives them."""
    known = [(service.sums[0], service.answer_tokens) for service in services]
    total = sum(samples for samples, _ in known) + 1.0
    return (sum(samples * tokens for samples, tokens in known) + params.answer_prior_tokens) / total


def common_pace(services: Iterable[Service], params: Params) -> Pace:
    """(time between two tokens of an answer alone, what each other request adds), by the answers of all of them."""
    sums = tuple(map(sum, zip(*(service.sums for service in services), strict=True)))
    prior = (params.itl_prior_s, params.itl_busy_prior_s)
    return fitted_pace(sums, prior, params) if sums else prior


def fitted_pace(sums: Sums, prior: Pace, params: Params) -> Pace:
    """Least squares over ``sums``, held to ``prior``; what ``solve_bounded`` finds, written out for two unknowns."""
    n, sr, srr, sy, sry = sums
    weight = params.itl_prior_samples
    weight_r = weight * params.itl_prior_spread_requests**2
    n, srr, sy, sry = n + weight, srr + weight_r, sy + weight * prior[0], sry + weight_r * prior[1]
    busy_s = (n * sry - sr * sy) / (n * srr - sr * sr)
    bounded_s = min(max(busy_s, 0.0), params.itl_busy_max_s)
    itl_s = (sy - sr * bounded_s) / n
    if 0.0 <= itl_s <= params.itl_max_s:
        return itl_s, bounded_s
    itl_s = min(max(itl_s, 0.0), params.itl_max_s)
    if bounded_s == busy_s:
        bounded_s = min(max((sry - sr * itl_s) / srr, 0.0), params.itl_busy_max_s)
    return itl_s, bounded_s


class Service:
    """How an engine serves what it has accepted: decode time of an answer, places in its batch, rates.

    The places are learned: an engine that serves the same number in scrape after scrape while others wait has that many
    places for now, unless it was seen to serve more; and so has one whose KV cache is full. Waiting alone is no proof:
    a request waits for the prefill of others, too. Until there is proof the places are unknown, and unknown means no
    predicted wait. What requests refute by being served long before a place could be free is dropped.

    Rates are exponentially forgotten counts: an event adds ``1 / rate_memory_s``, a tick takes off what has aged.
    """

    __slots__ = (
        "_full_scrapes",
        "_most_running",
        "_mpairs",
        "_n",
        "_outran",
        "_params",
        "_rated_s",
        "_requests",
        "_running",
        "_services",
        "_solved_s",
        "_sr",
        "_srr",
        "_sry",
        "_sy",
        "_tokens",
        "answer_tokens",
        "asked_mpairs_per_s",
        "asked_per_s",
        "asked_tokens_per_s",
        "expected_tokens",
        "itl_busy_s",
        "itl_s",
        "mean_s",
        "output_tokens_per_s",
        "pace",
        "slots",
        "slots_at_s",
    )

    def __init__(
        self, params: Params, now_s: float, requests_total: int = 0, tokens_total: int = 0, mpairs_total: float = 0.0
    ) -> None:
        self._params = params
        #: mean time from first to last token
        self.mean_s = params.service_prior_s
        self._services = 1.0  # that the mean is of; the prior is one
        #: mean tokens of an answer: of those seen here, and of those seen anywhere
        self.answer_tokens = self.expected_tokens = params.answer_prior_tokens
        #: time between two tokens: alone, and what each other request in the batch adds
        self.itl_s, self.itl_busy_s = params.itl_prior_s, params.itl_busy_prior_s
        self._n = self._sr = self._srr = self._sy = self._sry = 0.0
        #: times what its answers take by the line that all have in common
        self.pace = 1.0
        self.slots = float("inf")
        self.slots_at_s = float("-inf")
        self._full_scrapes = 0  # in a row
        self._running = 0.0  # in the last of them
        self._most_running = 0.0  # ever
        self._outran = 0  # requests in a row that refute the places
        #: what we send there, requests and uncached prompt tokens
        self.asked_per_s = 0.0
        self.asked_tokens_per_s = 0.0
        self.asked_mpairs_per_s = 0.0
        #: what we saw delivered
        self.output_tokens_per_s = 0.0
        self._rated_s = self._solved_s = now_s
        self._requests = requests_total
        self._tokens = tokens_total
        self._mpairs = mpairs_total

    def answered(self, decode_s: float, output_tokens: int, requests: float = 0.0) -> None:
        """A whole answer came, with so many other requests in the batch on average."""
        params = self._params
        self.answer_tokens += params.answer_weight * (output_tokens - self.answer_tokens)
        if output_tokens > 1:
            # Long answers know the mean better, and weigh as many tokens as they have.
            weight = output_tokens / self.answer_tokens if output_tokens < self.answer_tokens else 1.0
            itl_s = decode_s / (output_tokens - 1)
            self._n += weight
            self._sr += weight * requests
            self._srr += weight * requests * requests
            self._sy += weight * itl_s
            self._sry += weight * requests * itl_s
        self.took(decode_s)
        self.output_tokens_per_s += output_tokens / params.rate_memory_s

    def took(self, decode_s: float) -> None:
        """An answer took so long from its first token to its last, as far as that is known."""
        params, services = self._params, self._services
        weight = params.service_weight
        if services * weight < 1.0:  # the first ones replace the prior quickly
            self._services = services + 1.0
            weight = 1.0 / self._services
        self.mean_s += weight * ((decode_s if decode_s > params.service_min_s else params.service_min_s) - self.mean_s)

    @property
    def sums(self) -> Sums:
        """Weighted sums over the answers, at pace 1: what a least-squares fit of the time between tokens needs."""
        return self._n, self._sr, self._srr, self._sy / self.pace, self._sry / self.pace

    def solve(self, common: Pace, now_s: float) -> None:
        """Bring ``pace`` up to date with the answers, and with it the time between tokens, a multiple of ``common``."""
        params = self._params
        keep = exp((self._solved_s - now_s) / params.fit_memory_s)
        if self._n * keep > params.fit_samples_max:
            keep = params.fit_samples_max / self._n
        self._solved_s = now_s
        self._n, self._sr, self._srr = self._n * keep, self._sr * keep, self._srr * keep
        self._sy, self._sry = self._sy * keep, self._sry * keep
        itl_s, itl_busy_s = common
        expected_s = self._n * itl_s + self._sr * itl_busy_s
        if expected_s > 0.0:
            held_s = expected_s / self._n * params.pace_samples
            pace = (self._sy + held_s) / (expected_s + held_s)
            self.pace = min(max(pace, 1.0 / params.pace_max_factor), params.pace_max_factor)
        self.itl_s, self.itl_busy_s = itl_s * self.pace, itl_busy_s * self.pace

    def seen(self, running: float, waiting: float, kv_ratio: float | None, now_s: float) -> None:
        """A scrape told how many it serves, how many it lets wait, and how full its KV cache is."""
        params = self._params
        memory_full = kv_ratio is not None and kv_ratio >= params.kv_full_ratio
        self._most_running = max(self._most_running, running)
        if waiting < 1.0 or running < 1.0 or (running < self._most_running and not memory_full):
            self._full_scrapes = 0
        elif running == self._running or memory_full:
            self._full_scrapes += 1
        else:
            self._full_scrapes = 1
        self._running = running
        if self._full_scrapes >= params.slots_scrapes:
            self.slots = running
            self.slots_at_s = now_s
            self._outran = 0
        elif running > self.slots:
            self.slots = float("inf")

    def outran(self, came_s: float, requests: float) -> None:
        """A request that met ``requests`` others, which take all the places, was served after ``came_s``. When several
        in a row are served long before a place could be free, there are more places than that."""
        wait_s = (requests + 1.0 - self.slots) * self.place_s
        if came_s >= wait_s * self._params.slots_refuted_ratio:
            self._outran = 0
            return
        self._outran += 1
        if self._outran >= self._params.slots_refuted_times:
            self.slots = float("inf")
            self._full_scrapes = self._outran = 0
            self._most_running = max(self._most_running, requests + 1.0)

    def tick(self, now_s: float, requests_total: int, tokens_total: int, mpairs_total: float = 0.0) -> int:
        """Bring the rates up to date with the counts so far. Returns how many requests were new."""
        memory_s = self._params.rate_memory_s
        requests, tokens = requests_total - self._requests, tokens_total - self._tokens
        mpairs = mpairs_total - self._mpairs
        self._requests, self._tokens, self._mpairs = requests_total, tokens_total, mpairs_total
        keep = exp((self._rated_s - now_s) / memory_s)
        self._rated_s = now_s
        self.asked_per_s = self.asked_per_s * keep + requests / memory_s
        self.asked_tokens_per_s = self.asked_tokens_per_s * keep + tokens / memory_s
        self.asked_mpairs_per_s = self.asked_mpairs_per_s * keep + mpairs / memory_s
        self.output_tokens_per_s *= keep
        if now_s - self.slots_at_s > self._params.slots_memory_s:
            self.slots = float("inf")
        return requests

    @property
    def place_s(self) -> float:
        """Seconds until the next place is free, when all are taken."""
        return self.mean_s / self.slots
