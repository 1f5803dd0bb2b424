"""The simulated engines' answers have the shape of those recorded from the real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.sim_engine import CAPTURES, MODEL, QUICK, Answer, engine, recorded, until

VERSIONS = {"vllm": "vllm-0.32.0", "sglang": "sglang-0.5.23", "llamacpp": "llama.cpp-b11549"}
PLAIN = "transformers-serve-5.19.0"
MESSAGES = [{"role": "system", "content": "You are a test."}, {"role": "user", "content": "hello there"}]
GREEDY = {"max_tokens": 12, "temperature": 0, "ignore_eos": True}
CHAT = {"messages": MESSAGES, **GREEDY}
COMPLETION = {"prompt": "the region router", **GREEDY}
STREAM = {"stream": True}
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
LONG = "hello region router " * 3000

#: name of the recording -> (path, what was asked)
ASKED: dict[str, tuple[str, Any]] = {
    "chat_nonstream": ("chat/completions", CHAT),
    "chat_stream": ("chat/completions", CHAT | STREAM),
    "chat_stream_usage": ("chat/completions", CHAT | USAGE),
    "chat_stream_usage_false": ("chat/completions", CHAT | STREAM | {"stream_options": {"include_usage": False}}),
    "chat_stream_usage_continuous": (
        "chat/completions",
        CHAT | STREAM | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "chat_stream_max_tokens_1": ("chat/completions", CHAT | STREAM | {"max_tokens": 1}),
    "chat_stream_n2": ("chat/completions", CHAT | USAGE | {"n": 2, "temperature": 1, "seed": 1}),
    "chat_stream_logprobs": ("chat/completions", CHAT | STREAM | {"logprobs": True, "top_logprobs": 2}),
    "chat_stream_token_ids": ("chat/completions", CHAT | STREAM | {"return_token_ids": True}),
    "chat_nonstream_token_ids": ("chat/completions", CHAT | {"return_token_ids": True}),
    "chat_nonstream_with_stream_options": (
        "chat/completions",
        CHAT | {"stream": False, "stream_options": {"include_usage": True}},
    ),
    "chat_content_parts": (
        "chat/completions",
        CHAT | {"messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]},
    ),
    "completion_nonstream": ("completions", COMPLETION),
    "completion_stream": ("completions", COMPLETION | STREAM),
    "completion_stream_usage": ("completions", COMPLETION | USAGE),
    "completion_stream_token_ids": ("completions", COMPLETION | STREAM | {"return_token_ids": True}),
    "completion_prompt_ids": ("completions", COMPLETION | {"prompt": [1, 300, 301, 302], "max_tokens": 4}),
    "completion_two_prompts": ("completions", COMPLETION | {"prompt": ["the region", "router queue"]}),
    "no_model_field": ("chat/completions", CHAT | {"model": None}),
    "err_bad_model_chat": ("chat/completions", CHAT | {"model": "nope"}),
    "err_bad_model_stream": ("chat/completions", CHAT | STREAM | {"model": "nope"}),
    "err_bad_type_temperature": ("chat/completions", CHAT | {"temperature": "hot"}),
    "err_context_too_long": ("chat/completions", CHAT | {"messages": [{"role": "user", "content": LONG}]}),
    "err_context_too_long_stream": (
        "chat/completions",
        CHAT | STREAM | {"messages": [{"role": "user", "content": LONG}]},
    ),
    "err_context_too_long_completion": ("completions", COMPLETION | {"prompt": LONG}),
    "err_empty_body": ("chat/completions", b""),
    "err_empty_messages": ("chat/completions", {"messages": [], "max_tokens": 2}),
    "err_image": (
        "chat/completions",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
    ),
    "err_invalid_utf8": ("chat/completions", b'{"model":"m","messages":[{"role":"user","content":"\xff\xfe"}]}'),
    "err_lone_surrogate": (
        "chat/completions",
        b'{"max_tokens":2,"messages":[{"role":"user","content":"\\ud83d"}]}',
    ),
    "err_malformed_json": ("chat/completions", b'{"model":"tiny","messages":['),
    "err_max_tokens_negative": ("chat/completions", CHAT | {"max_tokens": -5}),
    "err_max_tokens_too_large": ("chat/completions", CHAT | {"max_tokens": 1_000_000}),
    "err_max_tokens_zero": ("chat/completions", CHAT | {"max_tokens": 0}),
    "err_missing_messages": ("chat/completions", {"model": MODEL}),
    "err_n_too_big_greedy": ("chat/completions", CHAT | {"n": 3, "max_tokens": 2}),
    "err_not_object": ("chat/completions", b"[1,2]"),
    "err_temperature_range": ("chat/completions", CHAT | {"temperature": -1}),
    "err_unknown_field_ok": ("chat/completions", CHAT | {"max_tokens": 2, "x_unknown_field": 1}),
    "continue_3_rest_nonstream": (
        "chat/completions",
        GREEDY
        | {
            "continue_final_message": True,
            "add_generation_prompt": False,
            "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Each"}],
        },
    ),
    "continue_5_both_flags_true": (
        "chat/completions",
        CHAT | {"continue_final_message": True, "add_generation_prompt": True},
    ),
    "continue_6_last_is_user": (
        "chat/completions",
        GREEDY
        | {
            "continue_final_message": True,
            "add_generation_prompt": False,
            "messages": [{"role": "user", "content": "hello"}],
        },
    ),
}

#: Recordings that were made under other conditions than we play, or that do not exist.
NOT_COMPARED = {
    ("llamacpp", "err_max_tokens_too_large"),  # runs on to a natural end there; the same here, but slowly
    ("sglang", "continue_5_both_flags_true"),
    ("vllm", "continue_3_rest_nonstream"),  # recorded with return_token_ids
}
CASES = [(kind, name) for kind in VERSIONS for name in ASKED if (kind, name) not in NOT_COMPARED]
#: `transformers serve`, which refuses fields that it does not know, and never answered requests that are too long.
CASES += [
    ("openai", name)
    for name in ASKED
    if (CAPTURES / PLAIN / f"{name}.response.http").is_file()
    and "too_l" not in name
    and name not in ("err_n_too_big_greedy", "chat_nonstream_token_ids", "chat_nonstream_with_stream_options")
]
PROFILE = replace(QUICK, context_tokens=4096, sequences=2, iteration_s=0.0005)


def outline(value: Any) -> Any:
    """Keys in their order, and kinds of values."""
    if isinstance(value, dict):
        return {key: outline(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [outline(value[0])] if value else []
    if isinstance(value, bool) or value is None:
        return value
    return "number" if isinstance(value, int | float) else "string"


def same(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Where two outlines differ. A null may stand for a value: what is null depends on the request."""
    if ours is None or theirs is None:
        return []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        if list(ours) != list(theirs):
            return [f"{where}: {list(ours)} instead of {list(theirs)}"]
        return [d for key in ours for d in same(ours[key], theirs[key], f"{where}.{key}")]
    if isinstance(ours, list) and isinstance(theirs, list):
        return same(ours[0], theirs[0], f"{where}[]") if ours and theirs else []
    return [] if ours == theirs else [f"{where}: {ours} instead of {theirs}"]


def kinds_of_events(answer: Answer) -> list[Any]:
    """The different outlines of a stream's events, in order of appearance."""
    seen: list[Any] = []
    for event in answer.events:
        shape = outline(event)
        if shape not in seen:
            seen.append(shape)
    return seen


@pytest.mark.parametrize(("kind", "name"), CASES)
async def test_answers_are_shaped_like_the_recorded_ones(kind: str, name: str) -> None:
    theirs = await recorded(VERSIONS.get(kind, PLAIN), name)
    path, asked = ASKED[name]
    if isinstance(asked, dict):
        asked = {k: v for k, v in ({"model": MODEL} | asked).items() if v is not None}
        if kind == "openai":
            asked.pop("ignore_eos", None)
    async with engine(kind, PROFILE) as client:
        ours = await client.ask("POST", f"/v1/{path}", asked)
    assert ours.status == theirs.status
    assert ours.headers.get("content-type") == theirs.headers.get("content-type")
    assert ours.headers.get("connection") == theirs.headers.get("connection")
    assert ours.headers["server"] == theirs.headers["server"]
    assert ours.end == theirs.end == "complete"
    if theirs.headers["content-type"].startswith("text/event-stream"):
        compare_streams(ours, theirs)
    elif theirs.headers["content-type"].startswith("application/json"):
        assert same(outline(ours.json), outline(theirs.json)) == []
    else:
        assert ours.body == theirs.body


def compare_streams(ours: Answer, theirs: Answer) -> None:
    assert ours.done == theirs.done
    assert bool(ours.text) == bool(theirs.text)
    for mine in kinds_of_events(ours):
        differences = [same(mine, other) for other in kinds_of_events(theirs)]
        assert [] in differences, (mine, differences)
    for other in kinds_of_events(theirs):
        assert any(same(mine, other) == [] for mine in kinds_of_events(ours)), other
    assert same(outline(ours.events[0]), outline(theirs.events[0])) == []
    assert same(outline(ours.events[-1]), outline(theirs.events[-1])) == []


@pytest.mark.parametrize("kind", VERSIONS)
@pytest.mark.parametrize("name", ["err_bad_type_temperature", "err_max_tokens_negative", "err_image", "err_not_object"])
async def test_errors_are_worded_like_the_recorded_ones(kind: str, name: str) -> None:
    theirs = await recorded(VERSIONS[kind], name)
    path, asked = ASKED[name]
    async with engine(kind, PROFILE) as client:
        ours = await client.ask("POST", f"/v1/{path}", {"model": MODEL} | asked if isinstance(asked, dict) else asked)

    def message(answer: Answer) -> str:
        if not answer.headers["content-type"].startswith("application/json"):
            return answer.body.decode()
        text: str = answer.json.get("error", answer.json)["message"]
        return text.replace(MODEL, "tiny")

    # SGLang's messages end with a place in its own source files.
    assert message(theirs).startswith(message(ours).rstrip("\n"))


@pytest.mark.parametrize("kind", VERSIONS)
async def test_llamacpp_puts_role_and_first_text_into_one_chunk_and_the_others_do_not(kind: str) -> None:
    theirs = await recorded(VERSIONS[kind], "chat_stream")
    async with engine(kind, PROFILE) as client:
        ours = await client.chat(stream=True)
    for answer in (ours, theirs):
        assert answer.chunks[0].count(b"data: ") == (2 if kind == "llamacpp" else 1)
        assert answer.chunks[-1] == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("kind", "path", "name"),
    [
        ("vllm", "/health", "get_health"),
        ("vllm", "/v1/models", "get_models"),
        ("vllm", "/v1/models/tiny", "get_model_by_id"),
        ("vllm", "/version", "get_version"),
        ("vllm", "/load", "get_load_idle"),
        ("vllm", "/nothing", "get_not_found"),
        ("vllm", "/v1/chat/completions", "err_get_on_post"),
        ("sglang", "/v1/models", "get_models"),
        ("sglang", f"/v1/models/{MODEL}", "get_model_by_id"),
        ("sglang", "/nothing", "get_not_found"),
        ("sglang", "/", "get_root"),
        ("llamacpp", "/health", "get_health"),
        ("llamacpp", "/v1/models", "get_models"),
        ("llamacpp", "/nothing", "get_not_found"),
        ("llamacpp", "/v1/chat/completions", "err_get_on_post"),
        ("llamacpp", "/slots", "get_slots"),
    ],
)
async def test_pages_are_shaped_like_the_recorded_ones(kind: str, path: str, name: str) -> None:
    theirs = await recorded(VERSIONS[kind], name)
    async with engine(kind, PROFILE) as client:
        ours = await client.get(path)
    assert ours.status == theirs.status
    if theirs.body:
        assert same(outline(ours.json), outline(theirs.json)) == []
    else:
        assert ours.body == b""


async def test_a_head_probe_is_answered_by_llamacpp_only() -> None:
    for kind, status in (("vllm", 405), ("sglang", 405), ("llamacpp", 200)):
        async with engine(kind, PROFILE) as client:
            assert (await client.ask("HEAD", "/health")).status == status


def families(page: str) -> dict[str, str]:
    """Metric families and their types."""
    return {line.split()[2]: line.split()[3] for line in page.splitlines() if line.startswith("# TYPE")}


def labels(page: str, family: str) -> set[tuple[str, ...]]:
    """The sets of label names under which a family is given."""
    out = set()
    for line in page.splitlines():
        if line.startswith((f"{family}{{", f"{family} ")):
            inside = line[line.find("{") + 1 : line.rfind("}")] if "{" in line else ""
            out.add(tuple(sorted(part.split('="')[0].strip(",") for part in inside.split('",') if part)))
    return out


@pytest.mark.parametrize(
    ("kind", "page"), [("vllm", "under_load"), ("sglang", "after_load"), ("llamacpp", "after_load")]
)
async def test_metrics_have_the_names_types_and_labels_of_the_recorded_page(kind: str, page: str) -> None:
    theirs = (CAPTURES.parent / "engines" / kind / f"metrics_{page}.txt").read_text()
    async with engine(kind, PROFILE) as client:
        await client.chat()
        answer = await client.get("/metrics")
    ours = answer.body.decode()
    known = families(theirs)
    own = families(ours)
    assert len(own) >= 7
    for family, type_ in own.items():
        if family == "sglang:num_aborted_requests_total":
            continue
        assert known.get(family) == type_, family
        if type_ != "histogram" and not family.endswith("_info"):
            missing = labels(ours, family) - labels(theirs, family)
            assert not missing, (family, missing)
    wanted = {"vllm": "version=1.0.0", "sglang": "version=0.0.4", "llamacpp": "version=0.0.4"}[kind]
    assert wanted in answer.headers["content-type"]


async def test_sglang_shows_no_request_metrics_before_the_first_is_finished() -> None:
    async with engine("sglang", PROFILE) as client:
        before = (await client.get("/metrics")).body.decode()
        await client.chat()
        after = (await client.get("/metrics")).body.decode()
    assert "sglang:num_running_reqs" in before
    assert "sglang:time_to_first_token_seconds" not in before
    assert "sglang:time_to_first_token_seconds" in after


async def test_vllm_reports_load_with_a_plain_answer_when_asked() -> None:
    async with engine(profile=PROFILE) as client:
        body = {"model": MODEL, **CHAT}
        answer = await client.ask("POST", "/v1/chat/completions", body, {"endpoint-load-metrics-format": "JSON"})
        assert answer.headers["endpoint-load-metrics"].startswith('JSON {"named_metrics":')
        stream = await client.ask(
            "POST", "/v1/chat/completions", body | STREAM, {"endpoint-load-metrics-format": "JSON"}
        )
        assert "endpoint-load-metrics" not in stream.headers


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
async def test_a_full_queue_is_refused_as_recorded(kind: str) -> None:
    names = ("err_503_admission_chat", "err_503_admission_stream")
    plain, stream = [await recorded(VERSIONS[kind], name) for name in names]
    async with engine(kind, replace(PROFILE, sequences=1), max_waiting=1) as client:
        held = [await client.send("POST", "/v1/completions", {"model": MODEL, **COMPLETION, "max_tokens": 3000})]
        await until(lambda: client.server.live.engine.running == 1)
        held.append(await client.send("POST", "/v1/completions", {"model": MODEL, **COMPLETION, "max_tokens": 3000}))
        await until(lambda: client.server.live.engine.waiting == 1)
        ours, ours_stream = await client.chat(), await client.chat(stream=True)
        for _, writer in held:
            writer.close()
    assert (ours.status, ours.json) == (plain.status, plain.json)
    assert ours_stream.status == stream.status
    if stream.events:
        assert ours_stream.events == stream.events
        assert ours_stream.done
    else:
        assert ours_stream.json == stream.json


async def test_sglang_dies_of_an_id_outside_its_vocabulary_and_the_others_do_not() -> None:
    for kind in VERSIONS:
        died = []
        async with engine(kind, PROFILE, on_crash=lambda died=died: died.append(True)) as client:
            answer = await client.complete([1, 99_999_999])
            assert (answer.status, bool(died)) == ((0, True) if kind == "sglang" else (400, False))
