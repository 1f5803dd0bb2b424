"""An engine that has OpenAI's API and nothing besides; tests/shell/test_engine_http_shapes.py compares it with a recorded one."""

from __future__ import annotations

from tests.support.sim_engine import engine

HELLO = {"role": "user", "content": "hello region"}


async def test_it_cannot_continue() -> None:
    messages = [HELLO, {"role": "assistant", "content": "Each open"}]
    async with engine("openai") as client:
        for flags in ({"continue_final_message": True, "add_generation_prompt": False}, {"return_token_ids": True}):
            refused = await client.chat(messages=messages, **flags)
            assert refused.status == 422
            assert refused.json["detail"].startswith("Unexpected fields in the request: {")
        assert (await client.complete([1, 300])).status == 400
        turn = await client.chat(messages=messages, stream=True)
        assert turn.text[0].isupper(), "a new turn"


async def test_a_stream_ends_without_a_mark_and_always_with_its_usage() -> None:
    async with engine("openai") as client:
        answer = await client.chat(stream=True)
        assert (answer.end, answer.done) == ("complete", False)
        assert answer.events[-1]["choices"][0]["finish_reason"] == "length"
        assert answer.events[-1]["usage"]["completion_tokens"] == 12


async def test_it_has_no_metrics() -> None:
    async with engine("openai") as client:
        assert (await client.get("/metrics")).status == 404
