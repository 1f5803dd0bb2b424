"""An engine that has OpenAI's API and nothing besides: `transformers serve` 5.19.

It continues no partial answer, takes no field that it does not know, and ends its streams without ``[DONE]``.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from sim.shapes.base import Call, Choice, EngineView, Json, Piece, Refusal, Shape

_NAMES = """
    model messages prompt max_tokens max_completion_tokens temperature top_p n stream stream_options stop seed logprobs
    top_logprobs logit_bias frequency_penalty presence_penalty response_format tools tool_choice parallel_tool_calls
    user metadata store service_tier echo best_of suffix reasoning_effort
"""
_FIELDS = frozenset(_NAMES.split())
_CRASHED = Refusal(500, "Internal Server Error")


def _detail(status: int, detail: Any) -> Refusal:
    return Refusal(status, {"detail": detail})


class OpenAI(Shape):
    name = "openai"
    version = "5.19.0"
    drains_by = "finish"
    headers_at_once = False
    aborts_unstreamed = True
    tells_tokens = False
    takes_token_ids = False
    fields = _FIELDS
    always_one = True
    ends_with_done = False
    metrics_content_type = "text/plain"
    histogram_bounds: ClassVar[dict[str, tuple[float, ...]]] = {}

    def headers(self, *, stream: bool, status: int) -> dict[str, str]:
        headers = {"Server": "uvicorn"}
        if stream:
            headers["Content-Type"] = "text/event-stream; charset=utf-8"
        return headers

    def new_id(self, kind: str, asked: str | None) -> str:
        return asked or str(uuid.uuid4())

    def refuse(self, kind: str, **facts: Any) -> Refusal | None:
        match kind:
            case "path":
                return _detail(404, "Not Found")
            case "method":
                return Refusal(405, {"detail": "Method Not Allowed"}, (("Allow", facts["allow"]),))
            case "empty_body":
                return _detail(422, [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": None}])
            case "utf8":
                return _detail(400, "There was an error parsing the body")
            case "json" | "surrogate":
                wrong = {"type": "json_invalid", "loc": ["body", facts.get("at", 0)], "msg": "JSON decode error"}
                return _detail(422, [wrong | {"input": {}, "ctx": {"error": facts.get("error", "surrogate")}}])
            case "not_object" | "content_type":
                message = "Input should be a valid dictionary"
                wrong = {"type": "dict_type", "loc": ["body"], "msg": message, "input": facts.get("value", "")}
                return _detail(422, [wrong])
            case "fields":
                return _detail(422, f"Unexpected fields in the request: {set(facts['value'])}")
            case "model":
                return _detail(400, f"Server is pinned to '{self.model}'; requested '{facts['value']}'.")
            case "prompt_ids":
                return _detail(400, "prompt must be a string.")
            case "missing" | "type" | "empty_messages" | "image" | "max_tokens_low":
                return _CRASHED
            case "queue_full" | "context":  # not recorded: as its other errors are worded
                return _detail(503 if kind == "queue_full" else 400, "Server is overloaded." if facts == {} else kind)
            case "broken":
                return _detail(500, facts["message"])
        return None

    def error_event(self, message: str, status: int) -> Json:
        return {"error": message}

    def _usage(self, choice: Choice) -> Json:
        prompt, output = choice.prompt_tokens, choice.output_tokens
        return {"completion_tokens": output, "prompt_tokens": prompt, "total_tokens": prompt + output}

    def answer(self, call: Call, choices: list[Choice]) -> Json:
        choice = choices[0]
        body: Json = {"finish_reason": choice.finish_reason, "index": 0}
        if call.kind == "chat":
            body["message"] = {"content": choice.text, "role": "assistant"}
        else:
            body["text"] = choice.text
        return {
            "id": call.id,
            "choices": [body],
            "created": call.created,
            "model": self.model,
            "object": "chat.completion" if call.kind == "chat" else "text_completion",
            "usage": self._usage(choice),
        }

    def events(self, call: Call, piece: Piece) -> list[list[Json]]:
        chat, choice = call.kind == "chat", piece.choice
        out: list[list[Json]] = []

        def chunk(body: Json, **more: Any) -> None:
            event: Json = {"id": call.id, "choices": [body], "created": call.created, "model": self.model}
            event["object"] = "chat.completion.chunk" if chat else "text_completion"
            if chat:
                event["system_fingerprint"] = ""
            out.append([event | more])

        if piece.first and chat:
            chunk({"delta": {"role": "assistant"}, "index": 0})
        if piece.text:
            chunk({"delta": {"content": piece.text}, "index": 0} if chat else {"index": 0, "text": piece.text})
        if choice.finish_reason is not None:
            ended = {"delta": {}, "index": 0} if chat else {"index": 0, "text": ""}
            reason = {"finish_reason": choice.finish_reason}
            chunk(ended | reason if chat else reason | ended, usage=self._usage(choice))
        return out

    def last_events(self, call: Call, choices: list[Choice]) -> list[Json]:
        return []

    def models(self, created: int) -> Json:
        model = {"id": self.model, "object": "model", "created": created, "owned_by": "transformers"}
        return {"object": "list", "data": [model]}

    def embeddings(self, model: str, vectors: list[Any], prompt_tokens: int, created: int) -> Json:
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)],
            "model": model,
            "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
        }

    def tokenized(self, ids: list[int], strings: list[str] | None) -> Json:
        return {"tokens": ids}

    def detokenized(self, text: str) -> Json:
        return {"text": text}

    def health(self) -> bytes:
        return b'{"status":"ok"}'

    def metrics(self, view: EngineView) -> None:
        return None
