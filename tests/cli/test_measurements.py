"""Where replay and plan take what is known of the fleet from, and what they say when they cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.errors import CliError, Exit, SilentError, StatusError
from cli.measurements import JOURNAL, Source, error_words, measured, weak
from tests.cli.conftest import Play
from tests.support.journals import lived, small_plan, traffic

LEARNED, RECORDS = lived(small_plan(), traffic(3.0, 30.0))
GONE = CliError("cannot reach the router", code=Exit.UNREACHABLE)


def answering(play: Play, learned: Any = LEARNED, records: Any = RECORDS) -> Play:
    play.admin.answers = {
        ("GET", "/admin/v1/learned"): learned,
        ("GET", "/admin/v1/journal"): {"data": records} if isinstance(records, list) else records,
    }
    return play


def test_the_running_router_is_asked_for_both(play: Play) -> None:
    found = measured(answering(play).context, Source(JOURNAL, None, 30, needed=True))
    assert found is not None
    assert found.router["name"] == "edge"
    assert ("GET", "/admin/v1/journal", {"limit": 30}) in play.admin.calls
    assert len(found.recording.served) == 30


def test_files_in_place_of_the_router(play: Play, tmp_path: Path) -> None:
    journal, learned = tmp_path / "j.jsonl", tmp_path / "l.json"
    journal.write_text("".join(json.dumps(r) + "\n" for r in RECORDS))
    learned.write_text(json.dumps(LEARNED))
    found = measured(play.context, Source(str(journal), str(learned), None, needed=True))
    assert found is not None
    assert len(found.recording.served) == len(RECORDS)
    assert play.admin.calls == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"router": "edge"}, ""),
        ({"router": "edge-2"}, "j.jsonl is the journal of edge-2, and the fleet is as edge has measured it"),
        (StatusError(404, {"message": "Request not found."}), "edge does not know the last request of j.jsonl"),
    ],
)
def test_whose_journal_it_is(play: Play, tmp_path: Path, answer: Any, said: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("j.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDS))
    answering(play).admin.answers["GET", f"/admin/v1/requests/{RECORDS[-1]['request_id']}"] = answer
    assert measured(play.context, Source("j.jsonl", None, None, needed=True)) is not None
    assert said in " ".join(play.err.split())
    assert bool(said) == bool(play.err)


def test_nobody_to_ask(play: Play) -> None:
    answering(play, GONE, GONE)
    assert measured(play.context, Source(JOURNAL, None, None, needed=False)) is None
    assert "engines are assumed" in play.err
    with pytest.raises(CliError) as refused:
        measured(play.context, Source(JOURNAL, None, None, needed=True))
    assert refused.value.code is Exit.UNREACHABLE


def test_one_that_hangs_is_not_nobody(play: Play) -> None:
    hangs = SilentError("it hangs", code=Exit.UNREACHABLE)
    with pytest.raises(SilentError):
        measured(answering(play, hangs, hangs).context, Source(JOURNAL, None, None, needed=False))


def test_other_files_than_journals(play: Play, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n")
    assert measured(play.context, Source(str(trace), None, None, needed=False)) is None
    with pytest.raises(CliError, match="no journal of this router"):
        measured(play.context, Source(str(trace), None, None, needed=True))
    with pytest.raises(CliError, match="no request yet"):
        measured(answering(play, records=[]).context, Source(JOURNAL, None, None, needed=False))
    with pytest.raises(CliError, match="is not an answer of GET"):
        measured(answering(play).context, Source(JOURNAL, str(trace), None, needed=True))


def test_the_journal_of_others(play: Play) -> None:
    other = LEARNED | {"backends": [b | {"name": f"{b['region']}/other"} for b in LEARNED["backends"]]}
    assert measured(answering(play, other).context, Source(JOURNAL, None, None, needed=False)) is None
    assert "no backend of the router" in play.err
    with pytest.raises(CliError, match="no backend of the router"):
        measured(play.context, Source(JOURNAL, None, None, needed=True))


def test_an_error_in_words() -> None:
    error = {"ttft_s_p50": 0.04, "ttft_s_p95": 0.113, "worst": 0.113, "max": 0.25, "measure": "…"}
    assert error_words(error) == "first token off by 4 % at p50 and 11 % at p95"
    both = error_words(error | {"e2e_s_p50": 0.02, "e2e_s_p95": 0.05})
    assert both.endswith(", whole answer off by 2 % at p50 and 5 % at p95")


def test_engines_of_which_little_is_known_are_named() -> None:
    def engine(backend: str, answers: int, error: float | None) -> dict[str, Any]:
        return {"backend": backend, "answers": answers, "first_token_error": error}

    engines = [engine("us/a", 200, 0.1), engine("us/b", 50, None), engine("eu/a", 3, 0.39), engine("eu/b", 90, 0.4)]
    assert weak(engines) == ["eu/a (3 answers, first tokens ± 39 %)", "eu/b (90 answers, first tokens ± 40 %)"]
