"""Reading traces and making workloads up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sim.traces import TraceError, load_trace
from sim.workloads import Chats, conversations

DATA = Path(__file__).parent.parent / "data" / "traces"
AZURE = DATA / "azure_llm_conv_2023_sample.csv"
MOONCAKE = DATA / "mooncake_synthetic_sample.jsonl"


def test_azure() -> None:
    trace = load_trace(AZURE)
    assert len(trace.arrivals) + trace.skipped == 2000
    first = trace.arrivals[0]
    assert (first.at_s, first.prompt_tokens, first.output_tokens) == (0.0, 374, 44)
    assert trace.arrivals[1].at_s == pytest.approx(4.314579, abs=1e-5)
    assert [a.at_s for a in trace.arrivals] == sorted(a.at_s for a in trace.arrivals)
    assert "CC-BY" in trace.source


def test_mooncake() -> None:
    trace = load_trace(MOONCAKE)
    assert len(trace.arrivals) == 300
    assert trace.block_tokens == 512
    for arrival in trace.arrivals:
        assert len(arrival.blocks) == arrival.prompt_tokens // 512
    sessions = {a.session for a in trace.arrivals}
    assert 50 < len(sessions) <= 300


def test_requests_that_share_a_conversation_share_the_session() -> None:
    trace = load_trace(MOONCAKE)
    by_block: dict[int, set[str]] = {}
    for arrival in trace.arrivals:
        if arrival.blocks:
            by_block.setdefault(arrival.blocks[0], set()).add(arrival.session)
    assert sum(len(s) == 1 for s in by_block.values()) / len(by_block) > 0.95


def test_the_journal_of_this_router(tmp_path: Path) -> None:
    lines = [
        {
            "request_id": f"r{i}",
            "arrival_s": 1_795_000_000.0 + i,
            "prompt_tokens": 500,
            "output_tokens": 20 * i,
            "prefix_blocks": [7, 8, 9],
            "tokens_per_block": 249.6,
            "tenant": "acme",
            "residency": ["eu"],
        }
        for i in range(4)
    ]
    path = tmp_path / "journal.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    trace = load_trace(path)
    assert trace.skipped == 1  # nothing was answered
    assert [a.at_s for a in trace.arrivals] == [0.0, 1.0, 2.0]
    assert trace.block_tokens == 250
    assert trace.arrivals[0].blocks == (7, 8)  # no more than whole blocks of the prompt
    assert trace.arrivals[0].residency == frozenset({"eu"})
    assert trace.arrivals[0].tenant == "acme"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "time,tokens\n1,2\n", "neither an Azure trace"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,many,4\n", "a.csv:2"),
        ("a.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "no usable request"),
        ("a.jsonl", '{"hash_ids":[1],"timestamp":0,"input_length":5,"output_length":1}\n{"x"\n', "a.jsonl:2"),
        ("a.jsonl", '{"hash_ids":[1],"timestamp":0,"output_length":1}\n', "input_length"),
        ("a.jsonl", "", "neither an Azure trace"),
    ],
)
def test_what_is_no_trace_is_said_with_its_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        load_trace(path)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="No such file"):
        load_trace(tmp_path / "nothing.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not a text file"):
        load_trace(tmp_path / "x.csv")


def test_a_limit_and_a_different_pace() -> None:
    trace = load_trace(AZURE, limit=100)
    assert len(trace.arrivals) == 100
    assert trace.faster(4.0).duration_s == pytest.approx(trace.duration_s / 4)
    rest = trace.without_first(10)
    assert (len(rest.arrivals), rest.arrivals[0].at_s) == (len(trace.arrivals) - 10, 0.0)
    assert trace.without_first(0) == trace
    short = trace.no_longer_than(500)
    assert 0 < len(short.arrivals) < 100
    assert len(short.arrivals) + short.skipped == 100


def test_conversations_come_at_the_rates_asked_for_and_are_the_same_for_a_seed() -> None:
    rates = {"us-east": 8.0, "eu-central": 2.0}
    trace = conversations(rates, 900, seed=3)
    assert trace == conversations(rates, 900, seed=3)
    assert trace != conversations(rates, 900, seed=4)
    for region, rate in rates.items():
        count = sum(a.region == region for a in trace.arrivals)
        assert count / 900 == pytest.approx(rate, rel=0.25)


def test_a_turn_repeats_the_turns_before_it() -> None:
    trace = conversations({"r": 5.0}, 300, seed=1)
    by_session: dict[str, list[int]] = {}
    repeated = 0
    for i, arrival in enumerate(trace.arrivals):
        earlier = by_session.setdefault(arrival.session, [])
        if earlier:
            before = trace.arrivals[earlier[-1]]
            known = before.blocks + before.answer_blocks
            assert arrival.blocks[: len(known)] == known
            repeated += 1
        earlier.append(i)
        assert len(arrival.blocks) == arrival.prompt_tokens // trace.block_tokens
    assert repeated > 100


def test_conversations_share_their_instructions_but_not_their_turns() -> None:
    trace = conversations({"r": 5.0}, 300, seed=1, chats=Chats(instructions=1, instruction_tokens=640))
    firsts = {a.session: a for a in reversed(trace.arrivals)}
    assert len({a.blocks[:10] for a in firsts.values()}) == 1
    longer = [a.blocks[10] for a in firsts.values() if len(a.blocks) > 10]
    assert len(set(longer)) == len(longer) > 20


def test_the_rate_follows_the_day() -> None:
    trace = conversations({"r": 10.0}, 1000, seed=1, chats=Chats(day_s=1000, swing=0.8, turns=1.0))
    halves = [sum(a.at_s < 500 for a in trace.arrivals), sum(a.at_s >= 500 for a in trace.arrivals)]
    assert halves[0] > 1.8 * halves[1]
