"""A conversation with a router that is a table."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from cli.client import Event, Reply
from cli.conversation import COMMANDS, Asking, Conversation, line_of_terminal
from cli.errors import CliError, Exit, StatusError
from tests.cli.conftest import FakeRemote, Json, Play

HEADERS = {"x-request-id": "req-1", "x-router-backend": "us-east/a", "x-router-region": "us-east"}


class Talker(FakeRemote):
    """Answers each turn with its number."""

    refuses: CliError | None = None

    @contextmanager
    def stream(self, path: str, body: object, headers: Any = None) -> Iterator[Reply]:
        self.calls.append(("STREAM", path, (body, dict(headers or {}))))
        if self.refuses is not None:
            raise self.refuses
        turn = sum(method == "STREAM" for method, *_ in self.calls)
        documents: list[Json] = [{"choices": [{"delta": {"content": f"answer {turn}"}, "finish_reason": "stop"}]}]
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
        documents.append({"choices": [], "usage": usage})
        yield Reply(200, HEADERS, iter([*(Event(json.dumps(d)) for d in documents), Event("[DONE]")]))

    @property
    def asked(self) -> list[tuple[Json, Json]]:
        return [detail for method, _, detail in self.calls if method == "STREAM"]


@pytest.fixture
def api() -> Talker:
    return Talker(answers={("GET", "/v1/models"): {"data": [{"id": "llama"}, {"id": "qwen"}]}})


def talk(play: Play, api: Talker, record: Json, lines: Sequence[str], **asking: Any) -> Exit | int:
    play.admin.answers |= {
        ("GET", "/admin/v1/requests/req-1"): record,
        ("GET", "/admin/v1/regions"): {"data": [{"name": "us-east"}, {"name": "eu-central"}]},
    }
    left = iter(lines)
    conversation = Conversation(play.context, api, Asking("llama", **asking), read=lambda prompt: next(left, None))
    return conversation.run()


def test_the_conversation_is_kept_and_each_turn_has_route_and_timing(play: Play, api: Talker, record: Json) -> None:
    assert talk(play, api, record, ["hello", "and then?"]) is Exit.OK
    (first, _), (second, _) = api.asked
    assert first["messages"] == [{"role": "user", "content": "hello"}]
    assert second["messages"] == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "answer 1"},
        {"role": "user", "content": "and then?"},
    ]
    routes = [line for line in play.out.splitlines() if line.startswith("▶ us-east/a · first token ")]
    assert len(routes) == 2
    assert all("4 of 9 prompt tokens cached" in line for line in routes)
    assert play.out.count("predicted 21 ms") == 2


def test_region_and_model_hold_for_what_follows(play: Play, api: Talker, record: Json) -> None:
    lines = ["/region eu-central", "/model qwen", "a", "/region any", "b", "/region", "/model"]
    assert talk(play, api, record, lines) is Exit.OK
    (first, headers), (second, later) = api.asked
    assert first["model"] == second["model"] == "qwen"
    assert headers["x-router-region"] == "eu-central"
    assert "x-router-region" not in later
    assert "region: any" in play.err
    assert "▶ qwen" in play.out.splitlines()


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("/region mars", 'there is no region "mars"', "eu-central, us-east"),
        ("/model gpt", 'there is no model "gpt"', "llama, qwen"),
        ("/explian", 'there is no command "/explian"', "/help"),
        ("/explain", "nothing has been asked yet", ""),
    ],
)
def test_a_wrong_command_says_what_there_is_and_changes_nothing(
    play: Play, api: Talker, record: Json, line: str, message: str, hint: str
) -> None:
    assert talk(play, api, record, [line, "go on"]) is Exit.OK
    assert f"error: {message}" in play.err
    assert hint in play.err
    ((body, headers),) = api.asked
    assert body["model"] == "llama"
    assert "x-router-region" not in headers


def test_explain_shows_the_last_decision(play: Play, api: Talker, record: Json) -> None:
    assert talk(play, api, record, ["hi", "/explain"]) is Exit.OK
    assert "eu-central/a" in play.out
    assert "draining" in play.out


def test_explain_is_about_the_last_turn_also_if_that_failed(play: Play, api: Talker, record: Json) -> None:
    api.refuses = StatusError(502, {"message": "nobody answers"})
    api.refuses.request_id = "req-2"
    refused = record | {"request_id": "req-2", "cause": "refused", "attempts": [], "ttft_s": None, "duration_s": 0.003}
    play.admin.answers[("GET", "/admin/v1/requests/req-2")] = refused
    assert talk(play, api, record, ["hi", "/explain"]) is Exit.OK
    assert "error: nobody answers" in play.err
    assert "Refused after 3.0 ms" in play.out


def test_a_turn_that_fails_has_not_happened(play: Play, api: Talker, record: Json) -> None:
    api.refuses = StatusError(429, {"message": "too many"})
    assert talk(play, api, record, ["one"]) is Exit.OK
    assert "error: too many" in play.err
    api.refuses = None
    talk(play, api, record, ["two"])
    assert api.asked[-1][0]["messages"] == [{"role": "user", "content": "two"}]


def test_help_new_and_quit(play: Play, api: Talker, record: Json) -> None:
    assert talk(play, api, record, ["/help", "a", "/new", "b", "/quit", "never asked"]) is Exit.OK
    for command in COMMANDS:
        assert command in play.out
    assert [body["messages"][0]["content"] for body, _ in api.asked] == ["a", "b"]
    assert len(api.asked[1][0]["messages"]) == 1


def test_a_backslash_continues_a_line(play: Play, api: Talker, record: Json) -> None:
    talk(play, api, record, ["first\\", "second", "", "  "])
    assert [body["messages"][-1]["content"] for body, _ in api.asked] == ["first\nsecond"]


def test_json_is_one_line_a_turn(play: Play, api: Talker, record: Json) -> None:
    talk(play, api, record, ["a", "b"], as_json=True)
    assert [json.loads(line)["text"] for line in play.out.splitlines()] == ["answer 1", "answer 2"]


def test_ctrl_c_stops_an_answer_and_twice_it_leaves(play: Play, api: Talker) -> None:
    def interrupted(prompt: str) -> str:
        raise KeyboardInterrupt

    assert Conversation(play.context, api, Asking("llama"), read=interrupted).run() == 130
    lines = iter(["a", None, "b", None, None])

    def now_and_then(prompt: str) -> str:
        line = next(lines)
        if line is None:
            raise KeyboardInterrupt
        return line

    play.admin.answers = {("GET", "/admin/v1/requests/req-1"): CliError("no", code=Exit.UNREACHABLE)}
    assert Conversation(play.context, api, Asking("llama"), read=now_and_then).run() == 130
    assert len(api.asked) == 2


def test_lines_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo"))
    assert [line_of_terminal("> ") for _ in range(4)] == ["one", "", "two", None]
