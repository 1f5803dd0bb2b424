"""The pure model of continuous batching: its invariants, and its figures against published ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.engine import Engine, Job, Phase, What
from sim.profiles import PROFILES, Profile
from tests.support.effort import examples

SMALL = Profile(
    name="small",
    summary="",
    source="",
    iteration_s=0.010,
    prefill_token_s=0.0001,
    attention_s=1e-8,
    sequence_s=0.0001,
    context_token_s=1e-6,
    kv_tokens=16 * 40,
    batch_tokens=64,
    sequences=5,
    context_tokens=600,
    intake_s=0.003,
)


@dataclass
class Arrival:
    wait_s: float
    prompt_tokens: int
    output_tokens: int
    family: int  # prompts of one family share their beginning
    leaves_after_s: float | None


arrivals = st.lists(
    st.builds(
        Arrival,
        wait_s=st.floats(0, 0.4).map(lambda x: round(x, 4) + 0.0000313),
        prompt_tokens=st.integers(1, 300),
        output_tokens=st.integers(0, 200),
        family=st.integers(0, 3),
        leaves_after_s=st.none() | st.floats(0, 1.0).map(lambda x: round(x, 4) + 0.0000171),
    ),
    min_size=1,
    max_size=25,
)


def job_of(arrival: Arrival, size: int) -> Job:
    prompt, total = arrival.prompt_tokens, arrival.prompt_tokens + arrival.output_tokens
    chain = [hash((arrival.family, i)) for i in range(total // size)]
    return Job(prompt, arrival.output_tokens, chain[: prompt // size], chain[prompt // size :])


def check(engine: Engine) -> None:
    """What must hold at any time."""
    kv = engine.kv
    held = sum(engine_job._holding.private for engine_job in engine.jobs()) + len(kv._holders)
    assert kv._free >= 0
    assert kv._free + len(kv._idle) + held == kv.capacity
    assert not set(kv._idle) & set(kv._holders)
    assert 0.0 <= engine.kv_ratio <= 1.0
    assert 0 <= engine.running <= engine.profile.sequences
    assert engine.waiting >= 0
    decoding = [j for j in engine.jobs() if j.phase is Phase.DECODE]
    # The engine's running sum agrees with its jobs, at the last iteration's end.
    assert engine._context == sum(j.prompt_tokens + 1 + engine.iterations_total - j._decode_from for j in decoding)
    assert engine._unfilled >= 0


def play(engine: Engine, plan: list[Arrival], *, checked: bool = True) -> list[Job]:
    """Run the whole plan to the end, stopping at each of its moments."""
    jobs: list[Job] = []
    moments: list[tuple[float, int, Job]] = []
    at_s = 0.0
    for i, arrival in enumerate(plan):
        at_s += arrival.wait_s
        job = job_of(arrival, engine.block_tokens)
        jobs.append(job)
        moments.append((at_s, 2 * i, job))
        if arrival.leaves_after_s is not None:
            moments.append((at_s + arrival.leaves_after_s, 2 * i + 1, job))
    for moment_s, kind, job in sorted(moments, key=lambda m: m[:2]):
        engine.advance(moment_s)
        if kind % 2 == 0:
            engine.submit(job, moment_s)
        else:
            engine.abort(job, moment_s)
        if checked:
            check(engine)
    while engine.next_event_s() < inf:
        engine.advance(engine.next_event_s())
        if checked:
            check(engine)
    return jobs


@examples(2)
@given(arrivals)
def test_every_request_ends_and_nothing_is_left_behind(plan: list[Arrival]) -> None:
    engine = Engine(SMALL)
    jobs = play(engine, plan)
    for job, arrival in zip(jobs, plan, strict=True):
        assert job.phase in (Phase.DONE, Phase.ABORTED)
        assert job.phase is Phase.DONE or arrival.leaves_after_s is not None
    assert engine.running == engine.waiting == engine._unfilled == engine._context == 0
    assert engine.kv.available == engine.kv.capacity
    expected = sum(j.output_tokens if j.phase is Phase.DONE else j.aborted_tokens for j in jobs)
    assert engine.output_tokens(1e9) == expected


@examples(2)
@given(arrivals)
def test_requests_are_admitted_in_order_of_arrival(plan: list[Arrival]) -> None:
    jobs = play(Engine(SMALL), plan, checked=False)
    admitted = [j.admitted_s for j in jobs if j.admitted_s is not None]
    assert admitted == sorted(admitted)
    for job in jobs:
        if job.first_token_s is not None:
            assert job.admitted_s is not None
            assert job.submitted_s + SMALL.intake_s <= job.admitted_s < job.first_token_s
        if job.phase is Phase.DONE and job.output_tokens > 1:
            assert job.ended_s is not None
            assert job.first_token_s is not None
            shortest_s = (job.output_tokens - 1) * SMALL.iteration_s
            assert job.ended_s - job.first_token_s >= shortest_s * 0.999999


@examples(2)
@given(arrivals)
def test_long_strides_end_where_single_steps_end(plan: list[Arrival]) -> None:
    strides = play(Engine(SMALL), plan)
    steps = play(Engine(SMALL, stretch_iterations=1), plan)
    for a, b in zip(strides, steps, strict=True):
        assert a.phase is b.phase
        assert a.aborted_tokens == b.aborted_tokens
        assert a.cached_tokens == b.cached_tokens
        assert a.first_token_s == pytest.approx(b.first_token_s, abs=1e-6)
        assert a.ended_s == pytest.approx(b.ended_s, abs=1e-6)


@given(st.floats(0, 3.0), st.integers(1, 150), st.integers(1, 4))
def test_tokens_so_far_grow_one_by_one(at_s: float, output_tokens: int, others: int) -> None:
    stride, step = Engine(SMALL), Engine(SMALL, stretch_iterations=1)
    counts = []
    for engine in (stride, step):
        job = Job(20, output_tokens)
        engine.submit(job, 0.0)
        for _ in range(others):
            engine.submit(Job(9, 77), 0.0)
        engine.advance(at_s)
        counts.append(engine.generated(job, at_s))
    assert abs(counts[0] - counts[1]) <= 1  # the very moment of an iteration's end may round either way
    assert 0 <= counts[0] <= output_tokens


def test_a_known_prefix_is_not_computed_again() -> None:
    engine = Engine(SMALL)
    blocks = list(range(100, 110))
    first, second = Job(170, 5, blocks), Job(170, 5, blocks)
    engine.submit(first, 0.0)
    engine.advance(10.0)
    engine.submit(second, 10.0)
    engine.advance(20.0)
    assert (first.cached_tokens, second.cached_tokens) == (0, 160)
    assert first.first_token_s is not None
    assert second.first_token_s is not None
    assert second.first_token_s - 10.0 < (first.first_token_s - 0.0) / 2
    assert engine.cached_tokens_total == 160


def test_at_least_one_prompt_token_is_always_computed() -> None:
    engine = Engine(SMALL)
    for at_s in (0.0, 10.0):
        job = Job(32, 2, [1, 2])
        engine.submit(job, at_s)
        engine.advance(at_s + 10.0)
    assert job.cached_tokens == 16


def test_the_answer_is_known_to_the_next_turn() -> None:
    engine = Engine(SMALL)
    engine.submit(Job(32, 32, [1, 2], [3, 4]), 0.0)
    engine.advance(10.0)
    follow_up = Job(80, 2, [1, 2, 3, 4, 5])
    engine.submit(follow_up, 10.0)
    engine.advance(20.0)
    assert follow_up.cached_tokens == 64


def test_the_least_recently_used_prefix_is_forgotten_first() -> None:
    engine = Engine(SMALL)  # 40 blocks

    def ask(base: int, at_s: float) -> int:
        job = Job(161, 1, [base + i for i in range(10)])
        engine.submit(job, at_s)
        engine.advance(at_s + 10.0)
        return job.cached_tokens

    assert [ask(base, at_s) for base, at_s in ((100, 0), (200, 20), (300, 40))] == [0, 0, 0]
    assert ask(100, 60) == 160  # used again: now 200 is the oldest
    assert ask(400, 80) == 0  # needs room
    assert ask(100, 100) == 160
    assert ask(200, 120) < 160


def test_a_request_waits_until_the_cache_has_room_for_its_whole_answer() -> None:
    engine = Engine(SMALL)
    big, next_one = Job(300, 200), Job(200, 10)
    engine.submit(big, 0.0)
    engine.submit(next_one, 0.0)
    engine.advance(1.0)
    assert (big.phase, next_one.phase) == (Phase.DECODE, Phase.WAITING)
    engine.advance(60.0)
    assert big.ended_s is not None
    assert next_one.admitted_s is not None
    assert next_one.admitted_s >= big.ended_s


def test_leaving_frees_the_place_at_once() -> None:
    engine = Engine(SMALL)
    big, next_one = Job(300, 200), Job(200, 10)
    engine.submit(big, 0.0)
    engine.submit(next_one, 0.0)
    engine.advance(1.0)
    engine.abort(big, 1.0)
    engine.advance(1.05)
    assert next_one.phase is Phase.PREFILL


def test_what_can_never_fit_is_refused() -> None:
    engine = Engine(SMALL)
    with pytest.raises(ValueError, match="more than the KV cache holds"):
        engine.submit(Job(500, 200), 0.0)
    assert engine.fits(Job(440, 200))


def closed_loop(profile: Profile, clients: int, prompt: int, output: int) -> tuple[float, float, float]:
    """Mean time to first token, mean time between tokens (s) and output tokens/s of ``clients`` that never rest."""
    engine = Engine(profile)
    alone_s = profile.iteration_s * output + profile.prefill_token_s * prompt
    starts = [(i * alone_s / clients, Job(prompt, output)) for i in range(clients)]
    done: list[Job] = []
    while len(done) < max(10, 8 * clients):
        next_s = engine.next_event_s()
        while starts and starts[0][0] <= next_s:
            at_s, job = starts.pop(0)
            engine.advance(at_s)
            engine.submit(job, at_s)
            next_s = engine.next_event_s()
        for event in engine.advance(next_s):
            if event.what is What.DONE:
                done.append(event.job)
                engine.submit(Job(prompt, output), event.at_s)
    steady = done[len(done) // 2 :]
    ttft_s = sum(j.first_token_s - j.submitted_s for j in steady) / len(steady)  # type: ignore[operator]
    itl_s = sum((j.ended_s - j.first_token_s) / (output - 1) for j in steady) / len(steady)  # type: ignore[operator]
    return ttft_s, itl_s, clients / (ttft_s + itl_s * (output - 1)) * output


@pytest.mark.parametrize(
    ("clients", "itl_ms", "tokens_per_s"),
    # The published rate falls again past 200 requests; what limits it there is not in the model.
    [(1, 4.63, 215), (25, 5.19, 4679), (50, 5.91, 8018), (100, 7.57, 12215), (200, 12.65, 13348)],
)
def test_h100_8b_agrees_with_its_published_table(clients: int, itl_ms: float, tokens_per_s: float) -> None:
    _, itl_s, rate = closed_loop(PROFILES["h100-llama-3.1-8b"], clients, 200, 200)
    assert itl_s * 1000 == pytest.approx(itl_ms, rel=0.16)
    assert rate == pytest.approx(tokens_per_s, rel=0.2)


@pytest.mark.parametrize(
    ("clients", "itl_ms", "tokens_per_s"), [(1, 18.58, 51.7), (5, 21.83, 218.5), (25, 38.75, 623), (50, 59.73, 814)]
)
def test_h100x2_70b_agrees_with_its_published_table(clients: int, itl_ms: float, tokens_per_s: float) -> None:
    ttft_s, itl_s, rate = closed_loop(PROFILES["h100x2-llama-3.3-70b"], clients, 5000, 500)
    assert itl_s * 1000 == pytest.approx(itl_ms, rel=0.08)
    assert rate == pytest.approx(tokens_per_s, rel=0.08)
    if clients == 1:
        assert ttft_s == pytest.approx(0.40677, rel=0.03)


def test_a100_agrees_with_its_published_first_token() -> None:
    ttft_s, itl_s, _ = closed_loop(PROFILES["a100-llama-3.1-8b"], 1, 500, 10)
    assert ttft_s == pytest.approx(0.0483, rel=0.06)
    assert 1 / itl_s == pytest.approx(75 * 2.04 / 1.56, rel=0.03)


@pytest.mark.parametrize("name", sorted(PROFILES.keys() - {"crowd"}))
def test_latency_grows_with_load(name: str) -> None:
    profile = PROFILES[name]
    runs = [closed_loop(profile, clients, 400, 50) for clients in (1, 8, 32)]
    ttfts, itls = [r[0] for r in runs], [r[1] for r in runs]
    assert ttfts == sorted(ttfts)
    assert itls == sorted(itls)
    assert ttfts[-1] > ttfts[0] * 1.5


def test_demo_is_pleasant_to_watch() -> None:
    ttft_s, itl_s, _ = closed_loop(PROFILES["demo"], 1, 100, 80)
    assert 0.1 <= ttft_s <= 0.3
    assert 40 <= 1 / itl_s <= 60


def test_a_throttled_engine_takes_longer_from_the_next_iteration_on() -> None:
    engine = Engine(replace(SMALL, intake_s=0.0))
    job = Job(10, 101)
    engine.submit(job, 0.0)
    engine.advance(0.5)
    before = engine.generated(job, 0.5)
    engine.set_slowdown(4.0, 0.5)
    engine.advance(1.0)
    assert 0 < engine.generated(job, 1.0) - before <= ceil(before / 4) + 1


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_profiles_name_their_source_and_can_hold_their_longest_request(name: str) -> None:
    profile = PROFILES[name]
    assert profile.name == name
    assert profile.source
    assert profile.context_tokens <= profile.kv_tokens
