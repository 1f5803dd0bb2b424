"""A request of a plan that allows it is answered by a smaller variant while its model is overloaded."""

from __future__ import annotations

import random

import pytest

from router.control import views
from router.control.gauges import _degrading_samples
from router.gateway.explain import Explainer
from tests.support.playbook import HEAD, MODEL, Playbook, chat, configuration, whole

SMALL = "small"
DEGRADE = f'\n[models.{MODEL}]\ntarget_ttft_s = 5\ndegrade = ["{SMALL}"]\n[plans.default]\ndegrade = %s\n'


def book(monkeypatch: pytest.MonkeyPatch, *, allowed: bool = True) -> Playbook:
    """One backend of the model with one place, and one of its variant."""
    text = configuration(HEAD + DEGRADE % str(allowed).lower(), ("us-east/a",)) + "\nmax_inflight = 1\n"
    text += '[[regions.backends]]\nname = "s"\nurl = "http://127.1.0.9:8000"\nengine = "vllm"\nmodels = ["small"]\n'
    return Playbook(monkeypatch, text)


async def test_the_variant_answers_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    play = book(monkeypatch)
    first, second = play.client(), play.client()
    first.send(chat())
    await play.turn()
    second.send(chat())
    await play.turn()
    asked = play.backend("us-east/s")
    asked.answers(body=whole())
    assert (second.answer.status, second.answer.headers["x-router-model"]) == (200, SMALL)
    assert second.answer.headers["x-router-backend"] == "us-east/s"
    record = play.records[-1] if play.records[-1].served_model == SMALL else play.records[0]
    assert (record.model, record.served_model) == (MODEL, SMALL)
    assert record.degraded is not None
    assert record.degraded.startswith("m is overloaded: every backend of it is full, that of small after")
    control = play.app.control
    assert control.degrading.counts == {(MODEL, SMALL): 1}
    samples = {(s.name, s.labels): s.value for s in _degrading_samples(control)}
    assert samples["router_model_strained", (MODEL,)] == 1
    assert samples["router_degraded_requests_total", (MODEL, SMALL)] == 1
    control.chronicle.look()
    (event,) = control.chronicle.history.list(lambda o: o.kind == "strain", limit=9)
    assert (event.subject, event.before, event.after) == (MODEL, "calm", "strained")
    assert event.why == "every backend of it is full, and 5 s is the target"
    shown = {b.name: views.backend(control, b)["strained"] for b in control.fleet.backends.values()}
    assert (list(shown["us-east/a"]), shown["us-east/s"]) == ([MODEL], {})
    explained = Explainer(play.app.lifecycle, random.Random(1))({"model": MODEL, "messages": [], "prompt": "Hi"})
    assert (explained["decision"]["model"], explained["decision"]["backend"]) == (SMALL, "us-east/s")
    assert explained["decision"]["degraded"]["plans"] == ["default"]
    play.backend("us-east/a").answers(body=whole())
    assert "x-router-model" not in first.answer.headers
    play.at_rest()


async def test_a_plan_that_does_not_allow_it_waits_for_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    play = book(monkeypatch, allowed=False)
    first, second = play.client(), play.client()
    first.send(chat())
    await play.turn()
    second.send(chat())
    await play.turn()
    assert not second.heard
    explained = Explainer(play.app.lifecycle, random.Random(1))({"model": MODEL, "messages": [], "prompt": "Hi"})
    assert (explained["decision"]["model"], explained["decision"]["kind"]) == (MODEL, "wait")
    assert explained["decision"]["degraded"]["plans"] == [], "it says what a plan that allows it would get"
    for client in (first, second):
        client.leave()
    play.at_rest()


async def test_it_answers_itself_when_it_has_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    play = book(monkeypatch)
    client = play.client()
    client.send(chat())
    await play.turn()
    play.backend("us-east/a").answers(body=whole())
    assert client.answer.headers["x-router-backend"] == "us-east/a"
    assert play.app.control.degrading.counts == {}
    play.at_rest()
