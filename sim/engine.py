"""Continuous batching as a pure model: who is in the batch, how long an iteration takes, when each token is there.

No clock, no I/O: the caller says what time it is. Iterations that only decode are advanced in one go up to the next
moment at which anything changes, so a simulated day costs as much as its requests, not as its tokens.

The scheduler is vLLM's (V1) without preemption: running requests first, then waiting ones in order of arrival while
the token budget, the sequence limit and the KV cache allow. Where vLLM admits and, when the cache overflows, preempts,
this one admits a request only when its whole answer will fit: it knows how long the answer will be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from math import ceil, inf, sqrt
from typing import Any, NamedTuple

from sim.kv import Holding, KvCache
from sim.profiles import Profile


class Phase(Enum):
    INTAKE = "intake"
    WAITING = "waiting"
    PREFILL = "prefill"
    DECODE = "decode"
    DONE = "done"
    ABORTED = "aborted"


@dataclass(slots=True, eq=False)
class Job:
    """One sequence to generate. The caller fills the first part, the engine the second."""

    prompt_tokens: int
    output_tokens: int  # 0: nothing is generated, as for an embedding
    blocks: Sequence[int] = ()  # chained hashes of the prompt's whole blocks
    answer_blocks: Sequence[int] = ()  # of the blocks that the answer completes, in order after ``blocks``
    tag: Any = None  # the caller's own

    phase: Phase = Phase.INTAKE
    submitted_s: float = 0.0
    admitted_s: float | None = None
    first_token_s: float | None = None
    ended_s: float | None = None
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    aborted_tokens: int = 0
    _holding: Holding = field(default_factory=Holding)
    _decode_from: int = 0  # reading of the engine's iteration counter when decoding began
    _done_at: int = 0


class What(Enum):
    FIRST = "first"  # the first output token is there
    DONE = "done"


class Event(NamedTuple):
    at_s: float
    what: What
    job: Job


class Stretch(NamedTuple):
    """``iterations`` of the same batch, under way since ``start_s``."""

    start_s: float
    iterations: int
    first_s: float  # how long the first one takes
    growth_s: float  # how much longer each next one takes, as contexts grow
    prefills: tuple[tuple[Job, int], ...]

    def until_s(self, iterations: int) -> float:
        """When that many iterations are done."""
        return self.start_s + iterations * self.first_s + self.growth_s * iterations * (iterations - 1) / 2

    def done_by(self, now_s: float) -> int:
        """How many whole iterations are done at ``now_s``."""
        elapsed = now_s - self.start_s
        if elapsed <= 0.0:
            return 0
        if self.growth_s > 0.0:
            half = self.first_s - self.growth_s / 2
            count = int((sqrt(half * half + 2 * self.growth_s * elapsed) - half) / self.growth_s)
        else:
            count = int(elapsed / self.first_s)
        count = min(count, self.iterations)
        while count < self.iterations and self.until_s(count + 1) <= now_s:
            count += 1
        while count > 0 and self.until_s(count) > now_s:
            count -= 1
        return count


class Engine:
    """One engine. Call :meth:`advance` at or after :meth:`next_event_s`, and before anything else at a given time.

    ``stretch_iterations`` caps how many iterations are taken at once; 1 makes every token an event of its own.
    """

    def __init__(self, profile: Profile, *, block_tokens: int | None = None, stretch_iterations: int = 1 << 30) -> None:
        self.profile = profile
        self.block_tokens = block_tokens or profile.block_tokens
        self.slowdown = 1.0  # every iteration takes this many times as long: a throttled GPU
        self.kv = KvCache(profile.kv_tokens // self.block_tokens)
        self.prompt_tokens_total = 0  # of admitted requests
        self.cached_tokens_total = 0
        self.output_tokens_total = 0  # of finished and aborted requests; see output_tokens()
        self.iterations_total = 0
        self.busy_s_total = 0.0
        self._stretch_iterations = stretch_iterations
        self._intake: deque[Job] = deque()
        self._waiting: deque[Job] = deque()
        self._waiting_count = 0
        self._prefilling: list[Job] = []
        self._decoding: dict[Job, None] = {}
        self._ends: list[tuple[int, int, Job]] = []  # heap: iteration at which a decoding job is done
        self._context = 0  # tokens that the decoding jobs look back on
        self._unfilled = 0  # tokens reserved in the KV cache and not yet computed
        self._order = 0
        self._under_way: Stretch | None = None

    # ---- what there is

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    @property
    def waiting(self) -> int:
        return self._waiting_count + len(self._intake)

    @property
    def kv_ratio(self) -> float:
        """Share of the KV cache that requests fill now, 0..1. Blocks kept for reuse count as free."""
        held = self.kv.capacity - self.kv.available - self._unfilled // self.block_tokens
        return max(0, held) / self.kv.capacity

    def generated(self, job: Job, now_s: float) -> int:
        """Output tokens the job has at ``now_s``."""
        if job.phase is Phase.DONE:
            return job.output_tokens
        if job.phase is Phase.ABORTED:
            return job.aborted_tokens
        if job.phase is not Phase.DECODE:
            return 0
        under_way = self._under_way
        ahead = under_way.done_by(now_s) if under_way is not None else 0
        return min(1 + self.iterations_total - job._decode_from + ahead, job.output_tokens)

    def output_tokens(self, now_s: float) -> int:
        """Output tokens of all requests so far."""
        return self.output_tokens_total + sum(self.generated(job, now_s) for job in self._decoding)

    def jobs(self) -> list[Job]:
        """Every job that is neither done nor aborted."""
        waiting = [j for j in self._waiting if j.phase is Phase.WAITING]
        return [*self._intake, *waiting, *self._prefilling, *self._decoding]

    # ---- what happens

    def fits(self, job: Job) -> bool:
        """Could the job ever run here? One that does not must not be submitted."""
        tokens = job.prompt_tokens + job.output_tokens
        return ceil(tokens / self.block_tokens) <= self.kv.capacity

    def submit(self, job: Job, now_s: float) -> None:
        if not self.fits(job):
            raise ValueError(f"{job.prompt_tokens} + {job.output_tokens} tokens are more than the KV cache holds")
        job.submitted_s = now_s
        if self.profile.intake_s > 0.0:
            job.phase = Phase.INTAKE
            self._intake.append(job)
        else:
            self._enqueue(job, now_s)

    def abort(self, job: Job, now_s: float) -> None:
        """Forget the job and free its blocks and place at once. No effect on one that has ended."""
        if job.phase in (Phase.DONE, Phase.ABORTED):
            return
        phase = job.phase
        job.aborted_tokens = self.generated(job, now_s)
        job.phase, job.ended_s = Phase.ABORTED, now_s
        self.output_tokens_total += job.aborted_tokens
        if phase is Phase.INTAKE:
            self._intake.remove(job)
        elif phase is Phase.WAITING:
            self._waiting_count -= 1  # skipped when its turn comes
        else:
            if phase is Phase.DECODE:
                del self._decoding[job]
                # The stretch under way adds its iterations to the jobs that are still there when it ends.
                self._context -= job.prompt_tokens + 1 + self.iterations_total - job._decode_from
                self._unfilled -= job.output_tokens - 1 - (self.iterations_total - job._decode_from)
            else:
                self._prefilling.remove(job)
                self._unfilled -= job.prompt_tokens - job.prefilled_tokens + job.output_tokens
            self.kv.release(job._holding)
        self._cut_short(now_s)

    def set_slowdown(self, factor: float, now_s: float) -> None:
        self.slowdown = factor
        self._cut_short(now_s)

    def next_event_s(self) -> float:
        """When to call :meth:`advance` next; infinity when nothing is going on."""
        at_s = inf
        if self._under_way is not None:
            at_s = self._under_way.until_s(self._under_way.iterations)
        if self._intake:
            at_s = min(at_s, self._intake[0].submitted_s + self.profile.intake_s)
        return at_s

    def advance(self, now_s: float) -> list[Event]:
        """Everything that happens up to and including ``now_s``, in order."""
        events: list[Event] = []
        while True:
            end_s = inf if self._under_way is None else self._under_way.until_s(self._under_way.iterations)
            ready_s = self._intake[0].submitted_s + self.profile.intake_s if self._intake else inf
            if min(end_s, ready_s) > now_s:
                return events
            if ready_s < end_s:
                self._enqueue(self._intake.popleft(), ready_s)
            else:
                self._finish_stretch(end_s, events)
                self._start_stretch(end_s)

    def _enqueue(self, job: Job, now_s: float) -> None:
        job.phase = Phase.WAITING
        queue_was_empty = self._waiting_count == 0
        self._waiting.append(job)
        self._waiting_count += 1
        if self._under_way is None:
            self._start_stretch(now_s)
        elif queue_was_empty and self._has_room(job):
            self._cut_short(now_s)

    def _has_room(self, job: Job) -> bool:
        if self.running >= self.profile.sequences:
            return False
        total = ceil((job.prompt_tokens + job.output_tokens) / self.block_tokens)
        return total - self.kv.hits(job.blocks, len(job.blocks)) <= self.kv.available

    def _cut_short(self, now_s: float) -> None:
        """End the stretch under way with the iteration that is running now, so that the batch can change."""
        under_way = self._under_way
        if under_way is None or under_way.iterations == 1:
            return
        done = under_way.done_by(now_s)
        if under_way.until_s(done) < now_s or done == 0:
            done += 1
        self._under_way = under_way._replace(iterations=min(done, under_way.iterations))

    def _finish_stretch(self, now_s: float, events: list[Event]) -> None:
        under_way = self._under_way
        assert under_way is not None
        self._under_way = None
        self.iterations_total += under_way.iterations
        self.busy_s_total += now_s - under_way.start_s
        decoded = len(self._decoding) * under_way.iterations
        self._context += decoded
        self._unfilled -= decoded
        while self._ends and self._ends[0][0] <= self.iterations_total:
            job = heappop(self._ends)[2]
            if job.phase is Phase.DECODE:
                del self._decoding[job]
                self._context -= job.prompt_tokens + job.output_tokens
                self._end(job, now_s, events)
        for job, tokens in under_way.prefills:
            if job.phase is Phase.PREFILL:
                self._prefilled(job, tokens, now_s, events)

    def _prefilled(self, job: Job, tokens: int, now_s: float, events: list[Event]) -> None:
        before = job.prefilled_tokens // self.block_tokens
        job.prefilled_tokens += tokens
        self._unfilled -= tokens
        self.kv.commit(job._holding, job.blocks[before : job.prefilled_tokens // self.block_tokens])
        if job.prefilled_tokens < job.prompt_tokens:
            return
        self._prefilling.remove(job)
        if job.output_tokens > 0:
            job.first_token_s = now_s
            self._unfilled -= 1
            events.append(Event(now_s, What.FIRST, job))
        if job.output_tokens <= 1:
            self._end(job, now_s, events)
            return
        job.phase = Phase.DECODE
        job._decode_from = self.iterations_total
        job._done_at = self.iterations_total + job.output_tokens - 1
        self._decoding[job] = None
        self._context += job.prompt_tokens + 1
        self._order += 1
        heappush(self._ends, (job._done_at, self._order, job))

    def _end(self, job: Job, now_s: float, events: list[Event]) -> None:
        job.phase, job.ended_s = Phase.DONE, now_s
        self.output_tokens_total += job.output_tokens
        self.kv.commit(job._holding, job.answer_blocks)
        self.kv.release(job._holding)
        events.append(Event(now_s, What.DONE, job))

    def _start_stretch(self, now_s: float) -> None:
        profile = self.profile
        decoding = len(self._decoding)
        budget = profile.batch_tokens - decoding
        prefills: list[tuple[Job, int]] = []
        prefill_tokens = 0
        pairs = 0.0
        for job in self._prefilling:
            if budget <= 0:
                break
            tokens = min(job.prompt_tokens - job.prefilled_tokens, budget)
            pairs += tokens * (job.prefilled_tokens + tokens / 2)
            budget -= tokens
            prefill_tokens += tokens
            prefills.append((job, tokens))
        while budget > 0 and (admitted := self._admit(now_s)) is not None:
            tokens = min(admitted.prompt_tokens - admitted.prefilled_tokens, budget)
            pairs += tokens * (admitted.prefilled_tokens + tokens / 2)
            budget -= tokens
            prefill_tokens += tokens
            prefills.append((admitted, tokens))
        if not prefills and not decoding:
            return
        iterations = 1 if prefills else min(self._until_next_end(), self._stretch_iterations)
        first_s = self.slowdown * (
            profile.iteration_s
            + profile.prefill_token_s * prefill_tokens
            + profile.attention_s * pairs
            + profile.sequence_s * decoding
            + profile.context_token_s * self._context
        )
        growth_s = self.slowdown * profile.context_token_s * decoding
        self._under_way = Stretch(now_s, iterations, first_s, growth_s, tuple(prefills))

    def _until_next_end(self) -> int:
        ends = self._ends
        while ends[0][2].phase is not Phase.DECODE:
            heappop(ends)
        return ends[0][0] - self.iterations_total

    def _admit(self, now_s: float) -> Job | None:
        """The next waiting job, if it finds a place."""
        while self._waiting and self._waiting[0].phase is Phase.ABORTED:
            self._waiting.popleft()
        if not self._waiting or self.running >= self.profile.sequences:
            return None
        job = self._waiting[0]
        size = self.block_tokens
        # The last prompt token is always computed: its output is the first token of the answer.
        hits = self.kv.hits(job.blocks, max(0, job.prompt_tokens - 1) // size)
        holding = self.kv.acquire(job.blocks, hits, ceil((job.prompt_tokens + job.output_tokens) / size))
        if holding is None:
            return None
        self._waiting.popleft()
        self._waiting_count -= 1
        job._holding = holding
        job.phase, job.admitted_s = Phase.PREFILL, now_s
        job.cached_tokens = job.prefilled_tokens = hits * size
        self.prompt_tokens_total += job.prompt_tokens
        self.cached_tokens_total += job.cached_tokens
        self._unfilled += job.prompt_tokens - job.cached_tokens + job.output_tokens
        self._prefilling.append(job)
        return job
