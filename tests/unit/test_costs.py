"""The costs of requests wait, bounded, until they are written into the books."""

from __future__ import annotations

from typing import Any

from router.core.spending import OTHERS, ROWS_MAX, Spender, Sums
from router.telemetry.costs import Asker, Costs, OverBudget
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.kinds import kinds_of

DAY_S = 86_400


def record(**changes: Any) -> Record:
    made = Record("r", 0.0, model="chat", served_model="m", status=200, key_id="key_1", tenant="acme", plan="trial")
    made.prompt_tokens, made.output_tokens, made.cost_usd = 100, 10, 0.00025
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def refused(**changes: Any) -> Record:
    why = {"limit": "budget", "limit_scope": "key", "limit_of": "alice"} | changes
    return record(status=429, error="quota_exhausted", cause="refused", cost_usd=None, served_model=None, **why)


def fold(made: Costs, *records: Record) -> None:
    for kind in dict.fromkeys(kinds_of(records)):
        made.fold(kind)


def test_requests_are_added_up_by_who_asked_and_who_answered() -> None:
    time = {"s": 3.0 * DAY_S}
    made = Costs(lambda: time["s"])
    fold(made, record(), record(), record(key_id="key_2", cost_usd=None))
    time["s"] += DAY_S
    fold(made, record(served_model="n"))
    days, nobody = made.take()
    one = Asker(Spender("acme", "key_1", "trial", "m"), "chat")
    assert days[3] == {
        one: Sums(2, 200, 20, 500),
        one._replace(spender=one.spender._replace(key_id="key_2")): Sums(1, 100, 10, 0),
    }
    assert days[4] == {one._replace(spender=one.spender._replace(model="n")): Sums(1, 100, 10, 250)}
    assert not nobody
    assert made.take() == ({}, set())


def test_who_leaves_before_a_backend_has_the_request_is_not_in_the_books() -> None:
    made = Costs(lambda: 0.0)
    left = record(status=499, cause="client_gone", cost_usd=None, served_model=None, output_tokens=0)
    fold(made, left)
    assert made.take() == ({}, set())
    left.attempts = [AttemptRecord("us/a", "us", 0.0, "client_gone")]
    left.cost_usd = 0.0001
    fold(made, left)
    assert made.take()[0] == {0: {Asker(Spender("acme", "key_1", "trial", "chat"), "chat"): Sums(1, 100, 0, 100)}}


def test_jwts_of_one_tenant_are_booked_under_the_plan_of_each() -> None:
    """They share an account, ``jwt:TENANT``, and end in the same moment."""
    made = Costs(lambda: 0.0)
    fold(made, *(record(key_id="jwt:acme", plan=plan) for plan in ("trial", "paid", "trial")))
    fold(made, *(refused(key_id="jwt:acme", plan=plan) for plan in ("paid", "trial")))
    days, nobody = made.take()
    rows = {plan: Asker(Spender("acme", "jwt:acme", plan, "m"), "chat") for plan in ("trial", "paid")}
    assert days[0] == {rows["trial"]: Sums(2, 200, 20, 500), rows["paid"]: Sums(1, 100, 10, 250)}
    assert {each.asker.spender.plan for each in nobody} == {"trial", "paid"}


def test_what_was_refused_or_failed_is_not_counted() -> None:
    made = Costs(lambda: 0.0)
    fold(made, refused(limit="requests"), record(status=502, cause="server_error", error="upstream_error"))
    assert made.take() == ({}, set())


def test_a_budget_into_which_requests_did_not_fit_is_noted_once() -> None:
    made = Costs(lambda: 0.0)
    fold(made, refused(), refused(), refused(limit="budget_day", limit_scope="model", limit_of="m"))
    fold(made, refused(limit_never=True, limit_of="giant"))
    _, found = made.take()
    key = Asker(Spender("acme", "key_1", "trial", ""), "chat")
    model = key._replace(spender=key.spender._replace(model="m"))
    assert found == {OverBudget(key, "budget", "key", "alice"), OverBudget(model, "budget_day", "model", "m")}


def test_while_nobody_takes_them_rows_are_bounded() -> None:
    made = Costs(lambda: 0.0)
    fold(made, *(record(key_id=f"key_{n}") for n in range(ROWS_MAX + 7)))
    days, _ = made.take()
    assert len(days[0]) == ROWS_MAX + 1
    assert days[0][Asker(OTHERS, "")] == Sums(7, 700, 70, 7 * 250)
