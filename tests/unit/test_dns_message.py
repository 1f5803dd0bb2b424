"""Questions and answers as bytes: read as they are written, and nothing that is malformed is taken for an answer."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.discovery.dns_message import (
    AAAA,
    SRV,
    A,
    MalformedAnswerError,
    NameAnswer,
    NameRecord,
    ServerFailureError,
    ServiceAt,
    answer,
    question,
)
from tests.support.effort import examples
from tests.support.name_server import labels, record, reply

NAME = "vllm.internal"
HERE = b"\xc0\x0c"


def test_a_question_has_one_name_and_says_how_long_an_answer_may_be() -> None:
    asked = question(7, "Vllm.Internal.", SRV)
    assert asked[:12] == struct.pack("!6H", 7, 0x0100, 1, 0, 0, 1)
    assert asked[12:].startswith(labels(NAME) + struct.pack("!HH", SRV, 1))
    assert asked.endswith(struct.pack("!BHHIH", 0, 41, 1232, 0, 0))


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, ".".join(["x" * 60] * 5)])
def test_what_is_no_name_is_not_asked(name: str) -> None:
    with pytest.raises(ValueError):
        question(1, name, A)


def test_addresses_of_both_families_and_their_time_to_live() -> None:
    found = answer(
        reply(question(1, NAME, A), [record(HERE, "A", 30, "10.0.0.1"), record(HERE, "A", 5, "10.0.0.2")]), 1, NAME, A
    )
    assert [(r.data, r.ttl_s) for r in found.of(NAME, A)] == [("10.0.0.1", 30), ("10.0.0.2", 5)]
    found = answer(reply(question(1, NAME, AAAA), [record(HERE, "AAAA", 3, "fd00::7")]), 1, NAME, AAAA)
    assert [r.data for r in found.of(NAME, AAAA)] == ["fd00::7"]


def test_an_alias_is_followed_and_the_shortest_time_holds() -> None:
    records = [record(HERE, "CNAME", 4, "b.internal"), record(labels("b.internal"), "A", 60, "10.0.0.1")]
    found = answer(reply(question(1, NAME, A), records), 1, NAME, A)
    assert [(r.data, r.ttl_s) for r in found.of(NAME, A)] == [("10.0.0.1", 4)]


def test_aliases_in_a_circle_lead_nowhere() -> None:
    records = [record(HERE, "CNAME", 4, "b.internal"), record(labels("b.internal"), "CNAME", 4, NAME)]
    assert answer(reply(question(1, NAME, A), records), 1, NAME, A).of(NAME, A) == []


def test_services() -> None:
    found = answer(reply(question(1, NAME, SRV), [record(HERE, "SRV", 9, "0 5 8000 a.internal")]), 1, NAME, SRV)
    assert found.of(NAME, SRV) == [NameRecord(NAME, SRV, 9, ServiceAt(0, 5, 8000, "a.internal"))]


def test_what_servers_say_without_records() -> None:
    asked = question(1, NAME, A)
    assert answer(reply(asked, [], code=3), 1, NAME, A) == NameAnswer(exists=False)
    assert answer(reply(asked, [], code=4), 1, NAME, A) == NameAnswer(), "it does not know this kind"
    assert answer(reply(asked, [record(HERE, "A", 1, "10.0.0.1")], cut=True), 1, NAME, A).cut
    for code in (1, 2, 5, 9):
        with pytest.raises(ServerFailureError):
            answer(reply(asked, [], code=code), 1, NAME, A)


@pytest.mark.parametrize(("number", "name", "kind"), [(2, NAME, A), (1, "other.internal", A), (1, NAME, AAAA)])
def test_the_answer_to_another_question_is_none(number: int, name: str, kind: int) -> None:
    with pytest.raises(MalformedAnswerError):
        answer(reply(question(number, name, kind), [record(HERE, "A", 1, "10.0.0.1")]), 1, NAME, A)


def test_a_question_is_not_an_answer() -> None:
    with pytest.raises(MalformedAnswerError):
        answer(question(1, NAME, A), 1, NAME, A)


def test_a_name_that_points_at_itself_ends() -> None:
    asked = question(1, NAME, A)
    at = len(asked) - 11
    bad = struct.pack("!H", 0xC000 | at) + struct.pack("!HHIH", A, 1, 1, 4) + b"\x0a\0\0\1"
    with pytest.raises(MalformedAnswerError, match="forwards"):
        answer(reply(asked, [bad]), 1, NAME, A)


@examples(20)
@given(st.data())
def test_whatever_comes_is_an_answer_or_an_error(data: st.DataObject) -> None:
    asked = question(1, NAME, SRV)
    records = [record(HERE, "SRV", 9, "0 5 8000 a.internal"), record(labels("a.internal"), "A", 9, "10.0.0.1")]
    message = bytearray(reply(asked, records))
    for _ in range(data.draw(st.integers(1, 6))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(message[: data.draw(st.integers(0, len(message)))])
    try:
        found = answer(cut, 1, NAME, SRV)
    except (MalformedAnswerError, ServerFailureError):
        return
    for r in found.of(NAME, SRV):
        assert isinstance(r.data, ServiceAt)
