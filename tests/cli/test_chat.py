"""router chat with a router that is a table."""

from __future__ import annotations

import io
import json

import pytest

from cli.client import Event, Reply
from cli.commands import chat
from cli.errors import CliError, Exit
from tests.cli.conftest import Json, Play

HEADERS = {"x-request-id": "req-1", "x-router-backend": "us-east/a", "x-router-region": "us-east"}


@pytest.fixture(autouse=True)
def _answers(play: Play, record: Json) -> None:
    texts = [("Hel", None), ("lo [there]", None), ("", "stop")]
    documents: list[Json] = [{"choices": [{"delta": {"content": t}, "finish_reason": f}]} for t, f in texts]
    documents.append({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 3}})
    events = [*(Event(json.dumps(document)) for document in documents), Event("[DONE]")]
    play.api.answers = {
        ("GET", "/v1/models"): {"data": [{"id": "llama"}]},
        ("STREAM", "/v1/chat/completions"): Reply(200, HEADERS, iter(events)),
    }
    play.admin.answers = {("GET", "/admin/v1/requests/req-1"): record}


def options(prompt: str = "hi", **changes: object) -> chat.ChatOptions:
    given = {"model": None, "url": None, "key": None, "max_tokens": 9, "region": None, "residency": None}
    return chat.ChatOptions(prompt=prompt, **(given | {"explain": False, "as_json": False} | changes))  # type: ignore[arg-type]


def test_text_then_route_then_why(play: Play) -> None:
    chat.run_chat(play.context, options())
    lines = play.out.splitlines()
    assert lines[0] == "Hello [there]"
    assert lines[2].startswith("▶ us-east/a · first token ")
    assert (
        lines[3]
        == "  predicted 21 ms · cost 21 ms = rtt 1.0 ms + prefill 20 ms · eu-central +91 ms, rtt · ap-northeast draining"
    )


def test_what_is_asked(play: Play) -> None:
    chat.run_chat(play.context, options(region="us-east", residency="us,eu"))
    body, headers = play.api.calls[-1][2]
    assert (body["model"], body["max_tokens"]) == ("llama", 9)
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert headers == {"x-router-region": "us-east", "x-router-residency": "us,eu", "x-router-legs": "1"}


def test_json_is_one_document(play: Play) -> None:
    chat.run_chat(play.context, options(as_json=True))
    document = json.loads(play.out)
    assert (document["text"], document["backend"], document["output_tokens"]) == ("Hello [there]", "us-east/a", 3)


def test_explain_shows_every_candidate(play: Play) -> None:
    chat.run_chat(play.context, options(explain=True))
    assert "eu-central/a" in play.out
    assert "draining" in play.out


def test_without_an_admin_api_the_answer_is_enough(play: Play) -> None:
    play.admin.answers = {("GET", "/admin/v1/requests/req-1"): CliError("no", code=Exit.UNREACHABLE)}
    chat.run_chat(play.context, options())
    assert play.out.splitlines()[-1].startswith("▶ us-east/a")
    assert play.err == ""


def test_an_empty_prompt(play: Play) -> None:
    with pytest.raises(CliError) as caught:
        chat.run_chat(play.context, options("  "))
    assert caught.value.code is Exit.USAGE


def test_a_prompt_from_the_standard_input(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("from a pipe"))
    chat.run_chat(play.context, options("-"))
    assert play.api.calls[-1][2][0]["messages"][0]["content"] == "from a pipe"
