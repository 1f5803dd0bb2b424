"""The course of a request over its attempts: each rule, and that every sequence keeps them all."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from router.core.admission import WaitQueue
from router.core.course import Course, Stop
from router.core.decisions import Dispatch, Reject, Struck, Wait
from router.core.fleet import Fleet
from router.core.outcomes import CONSEQUENCES, Outcome, Retry
from router.core.params import Params
from router.core.policy import POLICIES, make_policy
from router.core.traits import TRAITS, Continues
from router.core.types import Lease, Usage
from tests.support.effort import examples
from tests.support.fleets import MODEL, REGIONS, ask, fleet_of, spec

RNG = random.Random(1)
FAILURES = [outcome for outcome in Outcome if outcome is not Outcome.OK]


def course_of(fleet: Fleet, policy: str = "ttft", models: tuple[str, ...] = (MODEL,), **changes: Any) -> Course:
    return Course(fleet, make_policy(policy, fleet.params), ask(**changes), models)


def go(course: Course, now_s: float = 0.0) -> Lease:
    decision = course.next(now_s, RNG)
    assert isinstance(decision, Dispatch), decision
    return decision.lease


def fail(course: Course, outcome: Outcome, now_s: float = 0.0, **how: Any) -> tuple[str, Stop | None]:
    """One attempt that fails. Returns its backend, and what the course says to it."""
    lease = go(course, now_s)
    course.fleet.end(lease, outcome, now_s)
    return lease.backend, course.failed(lease.backend, outcome, now_s, **how)


class TestRetry:
    @pytest.mark.parametrize("outcome", FAILURES)
    def test_the_table_of_outcomes_says_what_is_retried(self, outcome: Outcome) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a"))
        _, stop = fail(course, outcome)
        assert stop is (Stop.RULE if CONSEQUENCES[outcome].retry is Retry.NO else None)

    @pytest.mark.parametrize("outcome", FAILURES)
    def test_an_answer_that_has_begun_is_not_started_over(self, outcome: Outcome) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a"))
        assert fail(course, outcome, begun=True)[1] is Stop.BEGUN

    def test_a_backend_that_failed_it_is_not_asked_again(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a"))
        first, _ = fail(course, Outcome.SERVER_ERROR)
        second, _ = fail(course, Outcome.SERVER_ERROR)
        assert {first, second} == {"us-east/a", "us-west/a"} == course.tried
        assert isinstance(course.next(0.0, RNG), Reject)
        assert course.stop is Stop.REJECTED

    def test_attempts_are_limited(self) -> None:
        course = course_of(fleet_of(*(f"us-east/{x}" for x in "abcde"), params=Params(attempts_max=4)))
        stops = [fail(course, Outcome.SERVER_ERROR)[1] for _ in range(4)]
        assert stops == [None, None, None, Stop.ATTEMPTS]
        assert course.attempts == 4

    def test_no_attempt_after_the_deadline(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a"), deadline_s=5.0)
        assert fail(course, Outcome.UNREACHABLE, 5.0)[1] is Stop.DEADLINE

    def test_the_budget_of_the_region_is_kept(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", params=Params(retry_floor_per_s=0.0, retry_ratio=0.0))
        assert fail(course_of(fleet), Outcome.SERVER_ERROR)[1] is Stop.BUDGET
        assert fail(course_of(fleet), Outcome.UNREACHABLE)[1] is None, (
            "nothing was done there: it costs nobody anything"
        )

    def test_a_request_that_two_backends_died_of_is_stopped(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a", "eu-west/a"))
        assert fail(course, Outcome.UNREACHABLE, died=True)[1] is None
        assert fail(course, Outcome.UNREACHABLE, died=True)[1] is Stop.DEADLY


class TestContinue:
    """After the first token: another backend goes on."""

    @pytest.mark.parametrize("outcome", FAILURES)
    def test_the_table_of_outcomes_says_what_is_gone_on_with(self, outcome: Outcome) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a"))
        _, stop = fail(course, outcome, begun=True, rest=Continues.TEXT)
        assert stop is (Stop.RULE if CONSEQUENCES[outcome].retry is Retry.NO else None)

    def test_only_backends_that_can_are_asked(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", "eu-west/a")
        for name in fleet.backends:
            fleet.observe_continues(name, Continues.TEXT if name == "eu-west/a" else Continues.NO)
        course = course_of(fleet)
        fail(course, Outcome.TRUNCATED, begun=True, rest=Continues.TEXT)
        assert go(course).backend == "eu-west/a"

    def test_tokens_can_do_what_text_can(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        for name in fleet.backends:
            fleet.observe_continues(name, Continues.TEXT)
        course = course_of(fleet)
        assert fail(course, Outcome.TRUNCATED, begun=True, rest=Continues.IDS)[1] is None
        assert isinstance(course.next(0.0, RNG), Reject)
        assert course.stop is Stop.REJECTED

    def test_a_probe_decides_against_what_is_believed_of_the_kind(self) -> None:
        backend = fleet_of("us-east/a").backends["us-east/a"]
        assert backend.continues is TRAITS[backend.spec.engine].continues
        backend.take_continues(Continues.IDS)
        assert backend.continues is Continues.IDS
        backend.reconfigure(spec("us-east/a", url="http://other:1"), 0.0)
        assert backend.continues_found is None, "another engine stands behind the name"

    def test_another_model_does_not_go_on_with_it(self) -> None:
        fleet = Fleet(Params(), router_region="us-east")
        fleet.apply([spec("us-east/a"), spec("us-west/a", models=("small",))], 0.0)
        course = course_of(fleet, models=(MODEL, "small"))
        assert fail(course, Outcome.TRUNCATED, begun=True, rest=Continues.TEXT)[1] is None
        assert isinstance(course.next(0.0, RNG), Reject)

    def test_breaks_are_limited(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a", params=Params(breaks_max=2)))
        stops = [fail(course, Outcome.MOVED, begun=True, rest=Continues.TEXT)[1] for _ in range(3)]
        assert stops == [None, None, Stop.BREAKS]

    def test_each_leg_may_take_as_many_attempts_as_a_new_request(self) -> None:
        course = course_of(fleet_of(*(f"us-east/{x}" for x in "abcdefgh"), params=Params(attempts_max=2)))
        more = {"begun": True, "rest": Continues.TEXT}
        for _ in range(2):
            assert fail(course, Outcome.TRUNCATED, **more)[1] is None
            assert fail(course, Outcome.SERVER_ERROR, **more)[1] is None
        assert fail(course, Outcome.SERVER_ERROR, **more)[1] is Stop.ATTEMPTS

    def test_a_leg_may_go_back_to_where_an_earlier_one_was(self) -> None:
        """Of two backends each is started anew in turn."""
        course = course_of(fleet_of("us-east/a", "us-west/a"))
        went = [fail(course, Outcome.MOVED, begun=True, rest=Continues.TEXT)[0] for _ in range(3)]
        assert went[0] == went[2] != went[1]

    def test_it_takes_nothing_from_the_budget(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", params=Params(retry_floor_per_s=0.0, retry_ratio=0.0))
        assert fail(course_of(fleet), Outcome.TRUNCATED, begun=True, rest=Continues.TEXT)[1] is None

    def test_a_request_that_kills_where_it_goes_on_is_stopped(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a", "eu-west/a"))
        died = {"begun": True, "rest": Continues.TEXT, "died": True}
        assert fail(course, Outcome.TRUNCATED, events=500, **died)[1] is None
        assert fail(course, Outcome.TRUNCATED, events=2, **died)[1] is Stop.DEADLY
        assert len(course.dead) == 2

    def test_a_leg_that_goes_well_pardons_the_deaths_before_it(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a", "eu-west/a", params=Params(breaks_max=9)))
        for _ in range(4):
            end = fail(course, Outcome.TRUNCATED, begun=True, rest=Continues.TEXT, died=True, events=100)
            assert end[1] is None

    def test_a_suspect_is_convicted_by_one_death(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-west/a"))
        course.suspicion = 1
        end = fail(course, Outcome.TRUNCATED, begun=True, rest=Continues.TEXT, died=True, events=100)
        assert end[1] is Stop.DEADLY


class TestWhere:
    def test_the_rest_of_a_region_that_is_not_reached_comes_last(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-east/b", "eu-west/a"))
        assert fail(course, Outcome.UNREACHABLE)[0].startswith("us-east/")
        assert fail(course, Outcome.UNREACHABLE)[0] == "eu-west/a"
        assert fail(course, Outcome.UNREACHABLE)[0].startswith("us-east/")

    def test_what_is_only_shunned_is_not_said_to_have_been_tried(self) -> None:
        course = course_of(fleet_of("us-east/a", "us-east/b", "eu-west/a"))
        tried = fail(course, Outcome.UNREACHABLE)[0]
        (beside,) = {"us-east/a", "us-east/b"} - {tried}
        decision = course.next(0.0, RNG)
        struck = {c.backend: c.struck for c in decision.candidates}
        assert struck == {tried: Struck.TRIED, beside: Struck.SHUNNED, "eu-west/a": None}

    def test_the_rest_of_a_region_where_one_died_comes_last(self) -> None:
        """The engines of a region that is switched off die one after the other."""
        more = {"begun": True, "rest": Continues.TEXT, "died": True}
        course = course_of(fleet_of("us-east/a", "us-east/b", "eu-west/a"))
        assert fail(course, Outcome.TRUNCATED, **more)[0].startswith("us-east/")
        assert go(course).backend == "eu-west/a"
        alone = course_of(fleet_of("us-east/a", "us-east/b"))
        assert fail(alone, Outcome.TRUNCATED, **more)[0] != go(alone).backend

    def test_a_model_that_nobody_serves_falls_back(self) -> None:
        fleet = fleet_of("us-east/a")
        course = course_of(fleet, models=("big", MODEL, "tiny"))
        assert go(course).request.model == MODEL

    def test_it_falls_back_after_failures_too(self) -> None:
        fleet = Fleet(Params(), router_region="us-east")
        fleet.apply([spec("us-east/a"), spec("us-west/a", models=("small",))], 0.0)
        course = course_of(fleet, models=(MODEL, "small"))
        assert fail(course, Outcome.SERVER_ERROR)[0] == "us-east/a"
        assert go(course).backend == "us-west/a"
        assert course.request.model == "small"

    def test_the_last_model_decides_what_is_said(self) -> None:
        course = course_of(fleet_of("us-east/a"), models=("x", "y"))
        decision = course.next(0.0, RNG)
        assert isinstance(decision, Reject)
        assert "'y'" in decision.detail
        assert course.stop is Stop.REJECTED

    def test_a_dry_run_counts_nothing(self) -> None:
        fleet = fleet_of("us-east/a")
        course = course_of(fleet)
        assert isinstance(course.next(0.0, RNG, dry_run=True), Dispatch)
        assert (course.attempts, course.stop, fleet.leases) == (0, None, set())
        nobody = course_of(fleet, models=("x",))
        assert isinstance(nobody.next(0.0, RNG, dry_run=True), Reject)
        assert nobody.stop is None


class TestWaiting:
    def test_a_place_is_judged_by_the_policy_that_the_request_chose(self) -> None:
        """``ttft`` holds requests back while every queue is long; ``round_robin`` does not."""
        fleet = fleet_of("us-east/a")
        go(course_of(fleet, prompt_tokens=100_000))
        patient, eager = course_of(fleet, arrival_s=0.0), course_of(fleet, "round_robin", arrival_s=0.0)
        assert isinstance(patient.next(0.0, RNG), Wait)
        assert not patient.fits(0.0, RNG)
        assert eager.fits(0.0, RNG)
        assert patient.kind != eager.kind

    def test_a_place_at_a_backend_that_failed_it_does_not_fit(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", max_inflight=1)
        course = course_of(fleet)
        backend, _ = fail(course, Outcome.SERVER_ERROR)
        other = go(course_of(fleet, pin_region="us-west" if backend.startswith("us-east") else "us-east"))
        assert isinstance(course.next(0.0, RNG), Wait)
        assert not course.fits(0.0, RNG), f"only {backend} is free"
        fleet.end(other, Outcome.OK, 0.0)
        assert course.fits(0.0, RNG)


NAMES = ("us-east/a", "us-east/b", "us-west/a", "eu-west/a", "eu-west/b")


def test_backends_whose_names_lead_nowhere_use_up_no_attempt() -> None:
    course = course_of(fleet_of(*(f"us-east/{x}" for x in "abcde"), params=Params(attempts_max=2)))
    seen: set[str] = set()
    for _ in range(4):
        backend, stop = fail(course, Outcome.UNREACHABLE, unsent=True)
        seen.add(backend)
        assert stop is None
    assert go(course).backend not in seen, "the only one left is asked"
    assert course.attempts == 1


class CourseMachine(RuleBasedStateMachine):
    """Many courses on one fleet, with outcomes, times, drains, reloads and policies by chance."""

    @initialize(
        seed=st.integers(0, 10**6),
        limit=st.integers(1, 3),
        breaks=st.integers(0, 3),
        attempts=st.integers(1, 4),
        ratio=st.sampled_from([0.0, 0.2]),
        floor_per_s=st.sampled_from([0.0, 0.2, 10.0]),
    )
    def start(self, seed: int, limit: int, breaks: int, attempts: int, ratio: float, floor_per_s: float) -> None:
        self.now_s = 0.0
        self.params = Params(
            attempts_max=attempts,
            breaks_max=breaks,
            retry_ratio=ratio,
            retry_floor_per_s=floor_per_s,
            queue_max=5,
        )
        self.begun: dict[int, str] = {}  # by the id of a course: the model that its answer is of
        self.limit = limit
        self.fleet = Fleet(self.params, router_region="us-east")
        self.fleet.apply([spec(name, max_inflight=limit) for name in NAMES], 0.0)
        self.rng = random.Random(seed)
        self.queue: WaitQueue[Course] = WaitQueue(self.params)
        self.live: dict[int, tuple[Course, Lease]] = {}  # by number
        self.waiting: list[Course] = []
        self.over: list[Course] = []
        self.count = self.retries = self.ended = 0

    def advance(self, course: Course) -> None:
        """Ask for the next step and do as told."""
        before = {name: b.inflight for name, b in self.fleet.backends.items()}
        attempts = course.attempts
        decision = course.next(self.now_s, self.rng)
        if isinstance(decision, Dispatch):
            lease, request = decision.lease, course.request
            backend = self.fleet.backends[lease.backend]
            assert not lease.ended
            assert lease.backend not in course.tried
            assert not backend.draining
            assert request.model in course.models
            assert backend.serves(request.model)
            assert request.residency is None or backend.jurisdiction in request.residency
            assert request.pin_region is None or backend.region == request.pin_region
            assert before[lease.backend] < backend.capacity.limit
            assert course.attempts == attempts + 1 <= self.params.attempts_max * (1 + course.breaks)
            if id(course) in self.begun:
                assert request.model == self.begun[id(course)], "another model continues the answer"
                assert backend.continues >= request.continues > Continues.NO
            self.count += 1
            self.live[self.count] = (course, lease)
            return
        assert before == {name: b.inflight for name, b in self.fleet.backends.items()}
        assert course.attempts == attempts
        if isinstance(decision, Wait) and self.queue.push(
            course.request, self.now_s, course, kind=course.kind, until_s=decision.until_s
        ):
            self.waiting.append(course)
        else:
            assert isinstance(decision, Wait) or course.stop is Stop.REJECTED
            self.over.append(course)

    @rule(passed_s=st.floats(0.0, 20.0))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s

    @rule(
        policy=st.sampled_from(sorted(POLICIES)),
        models=st.sampled_from([(MODEL,), ("nobody", MODEL), (MODEL, "nobody"), ("nobody",)]),
        residency=st.sampled_from([None, None, frozenset({"eu"}), frozenset({"ch"})]),
        pin=st.sampled_from([None, None, None, "us-east", "eu-west"]),
        lasts_s=st.sampled_from([0.0, 1.0, 30.0, float("inf")]),
        stream=st.booleans(),
    )
    def begin(
        self,
        policy: str,
        models: tuple[str, ...],
        residency: frozenset[str] | None,
        pin: str | None,
        lasts_s: float,
        stream: bool,
    ) -> None:
        request = ask(
            residency=residency,
            pin_region=pin,
            arrival_s=self.now_s,
            deadline_s=self.now_s + lasts_s,
            stream=stream,
            tenant=self.rng.choice("ab"),
        )
        self.advance(Course(self.fleet, make_policy(policy, self.params), request, models))

    @precondition(lambda self: self.live)
    @rule(
        which=st.integers(0, 10**6),
        outcome=st.sampled_from(list(Outcome)),
        died=st.booleans(),
        content=st.booleans(),
        rest=st.sampled_from(Continues),
        events=st.integers(0, 40),
    )
    def end(self, which: int, outcome: Outcome, died: bool, content: bool, rest: Continues, events: int = 0) -> None:
        course, lease = self.live.pop(sorted(self.live)[which % len(self.live)])
        if content:
            self.fleet.first_token(lease, self.now_s)
            self.begun.setdefault(id(course), course.request.model)
        self.fleet.end(lease, outcome, self.now_s, Usage(100, 20, 30, True))
        with pytest.raises(RuntimeError):
            self.fleet.end(lease, outcome, self.now_s)
        self.ended += 1
        if outcome is Outcome.OK:
            self.over.append(course)
            return
        begun = id(course) in self.begun
        stop = course.failed(
            lease.backend, outcome, self.now_s, died=died, begun=begun, rest=rest, events=events if content else 0
        )
        assert lease.backend in course.tried
        if stop is not None:
            self.over.append(course)
            return
        assert rest or not begun
        assert CONSEQUENCES[outcome].retry is not Retry.NO
        assert course.attempts < self.params.attempts_max * (1 + course.breaks)
        assert course.breaks <= self.params.breaks_max
        assert self.now_s < course.request.deadline_s
        assert len(course.dead) < self.params.deaths_max
        self.advance(course)

    @rule()
    def offer_places(self) -> None:
        for course in self.queue.expire(self.now_s):
            self.waiting.remove(course)
            self.over.append(course)
        for _ in range(len(self.queue)):
            free = self.queue.pop(self.now_s, lambda course: course.fits(self.now_s, self.rng))
            if free is None:
                break
            self.waiting.remove(free)
            self.advance(free)

    @rule(name=st.sampled_from([*NAMES, *REGIONS]), draining=st.booleans())
    def drain(self, name: str, draining: bool) -> None:
        self.fleet.set_draining(name, draining)

    @rule(name=st.sampled_from(NAMES), ok=st.booleans())
    def probe(self, name: str, ok: bool) -> None:
        self.fleet.observe_health(name, ok, self.now_s)

    @rule(names=st.sets(st.sampled_from(NAMES), min_size=1))
    def reload(self, names: set[str]) -> None:
        self.fleet.apply([spec(n, max_inflight=self.limit) for n in sorted(names)], self.now_s)

    @invariant()
    def all_is_accounted_for(self) -> None:
        if not hasattr(self, "fleet"):
            return
        self.fleet.audit()
        assert self.fleet.leases == {lease for _, lease in self.live.values()}
        assert len(self.queue) == len(self.waiting)
        for backend in self.fleet.backends.values():
            assert self.fleet.retries_left(backend.region, self.now_s) >= 0.0

    def teardown(self) -> None:
        """Everything ends: waiting requests by their time, attempts by theirs."""
        if not hasattr(self, "fleet"):
            return
        while self.live:
            self.end(0, Outcome.CLIENT_GONE, died=False, content=False, rest=Continues.NO)
        self.now_s += 1e6
        self.offer_places()
        while self.live:
            self.end(0, Outcome.OK, died=False, content=True, rest=Continues.NO)
        assert not self.waiting
        assert len({id(course) for course in self.over}) == len(self.over), "a course ended twice"
        self.fleet.audit()


TestCourseMachine = CourseMachine.TestCase
TestCourseMachine.settings = examples(1, stateful_step_count=40)
