"""Looking into one thing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli.client import Remote
from cli.context import connect
from cli.errors import StatusError
from cli.top import details
from tests.support.admin_stand_in import StandIn
from tests.support.fleet_on_show import answers, live, small_fleet
from tests.support.top_views import drawn, stand_still


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    stand_still(monkeypatch)
    with StandIn(answers()) as stand_in:
        yield connect(stand_in.url, None, admin=True)


@pytest.mark.parametrize("width", [80, 120])
def test_a_request_has_its_sentence_waterfall_and_decision(admin: Remote, width: int) -> None:
    text = drawn(details.of_request(admin, "req-5f0c00"), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    for words in ("irst token after", "auth and limits", "us-east/a", "▶", "would be chosen if", "tenant acme"):
        assert words in text, words
    assert "…" not in text


def test_a_request_in_flight_says_how_far_it_is(admin: Remote) -> None:
    text = drawn(details.of_request(admin, live(0)["request_id"]))
    assert "It is on its way." in text
    assert "2,210 answer so far" in text
    assert "first token after 90 ms" in text
    waiting = drawn(details.in_flight_facts(live(3, phase="first token", ttft_s=None)))
    assert "first token expected 80 ms after it was sent" in waiting


def test_a_request_that_nobody_knows_is_an_error(admin: Remote) -> None:
    with pytest.raises(StatusError):
        details.of_request(admin, "req-nobody")


def test_a_backend_has_its_terms_its_history_and_what_runs_there(admin: Remote) -> None:
    backend = next(b for b in small_fleet()[0]["backends"] if b["name"] == "us-east/b")
    text = drawn(details.of_backend(admin, backend))
    for words in (
        "us-east/b",
        "a short request for llama-3.1-8b now",
        "queue",
        "in flight there: 2",
        "history",
        "anna",
    ):
        assert words in text, words


def test_a_region_and_a_key(admin: Remote) -> None:
    region = drawn(details.of_region(admin, small_fleet()[1]), 140)
    assert "eu-central/b" in region
    assert "in flight there: 1" in region
    key = drawn(details.of_key(admin, answers()["GET", "/admin/v1/keys"]["data"][0]))
    assert "plan gold" in key
    assert "the last requests" in key


def test_an_event(admin: Remote) -> None:
    text = drawn(details.event_facts(answers()["GET", "/admin/v1/events"]["data"][0]))
    assert "healthy → ejected" in text
    assert "43 s ago" in text
