"""SGLang 0.5.23, with --enable-cache-report and --enable-metrics."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from sim.shapes.base import Call, Choice, EngineView, Json, Piece, Refusal, Shape

_TTFT = (
    0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0,
)  # fmt: skip
_ITL = (
    0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6, 0.8,
    1.0, 2.0, 4.0, 6.0, 8.0,
)  # fmt: skip
_E2E = (
    0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0, 600.0,
    1200.0, 1800.0, 2400.0,
)  # fmt: skip


def _error(status: int, message: str, kind: str = "BadRequestError") -> Refusal:
    body = {"object": "error", "message": message, "type": kind, "param": None, "code": status}
    return Refusal(status, body)


def _invalid(problem: str, loc: str, message: str, shown: str) -> Refusal:
    text = f"1 validation error:\n  {{'type': '{problem}', 'loc': {loc}, 'msg': '{message}', 'input': {shown}}}\n\n"
    return _error(400, text, "Bad Request")


class SGLang(Shape):
    name = "sglang"
    drains_by = "finish"
    # It generates a token to be sure, and looks for it once a second.
    health_s = 1.0
    default_model = "default"
    tokens_for_zero = 0
    version = "0.5.23"
    headers_at_once = False
    aborts_unstreamed = True
    metrics_content_type = "text/plain; version=0.0.4; charset=utf-8"
    histogram_bounds: ClassVar[dict[str, tuple[float, ...]]] = {
        "time_to_first_token_seconds": _TTFT,
        "inter_token_latency_seconds": _ITL,
        "e2e_request_latency_seconds": _E2E,
        "queue_time_seconds": _E2E,
    }

    def headers(self, *, stream: bool, status: int) -> dict[str, str]:
        headers = {"Server": "uvicorn", "Vary": "Origin"}
        if stream:
            headers["Content-Type"] = "text/event-stream; charset=utf-8"
        return headers

    def new_id(self, kind: str, asked: str | None) -> str:
        return uuid.uuid4().hex

    def refuse(self, kind: str, **facts: Any) -> Refusal | None:
        match kind:
            case "path":
                return Refusal(404, {"detail": "Not Found"})
            case "method":
                return Refusal(405, {"detail": "Method Not Allowed"}, (("Allow", facts["allow"]),))
            case "empty_body":
                return _invalid("missing", "('body',)", "Field required", "None")
            case "utf8":
                return _invalid("json_invalid", "('body', 0)", "JSON decode error", "{}")
            case "json":
                return _invalid("json_invalid", f"('body', {facts['at']})", "JSON decode error", "{}")
            case "surrogate":
                return _invalid("json_invalid", "('body', 0)", "JSON decode error", "{}")
            case "not_object":
                return Refusal(500, "Internal Server Error")
            case "missing":
                return _invalid("missing", f"('body', '{facts['field']}')", "Field required", repr(facts["body"]))
            case "type":
                loc = f"('body', '{facts['field']}')"
                return _invalid(facts["problem"], loc, facts["message"], repr(facts["value"]))
            case "content_type":
                text = (
                    "1 validation error:\n  {'loc': ['header', 'content-type'], 'msg': \"Unsupported Media Type: "
                    "Only 'application/json' is allowed\", 'type': 'value_error'}"
                )
                return _error(400, text, "Bad Request")
            case "queue_full":
                message = "The request queue is full."
                in_band = {"object": "error", "message": message, "type": "SERVICE_UNAVAILABLE", "param": None}
                refusal = _error(503, message, "503")
                return Refusal(503, refusal.body, in_band={"error": in_band | {"code": 503}})
            case "broken":
                return _error(500, facts["message"], "InternalServerError")
        return self._refuse_value(kind, facts)

    def _refuse_value(self, kind: str, facts: dict[str, Any]) -> Refusal | None:
        value: Any = facts.get("value")
        match kind:
            case "empty_messages":
                return _error(400, "Messages cannot be empty.")
            case "image":
                return _error(400, "Model only supports text input; received unsupported content type 'image_url'.")
            case "max_tokens_low" if value < 0:
                return _error(400, f"max_new_tokens must be at least 0, got {value}.")
            case "max_tokens_high":
                return _error(
                    400,
                    f"max_completion_tokens is too large: {value}."
                    f"This model supports at most {self.context_tokens} completion tokens.",
                )
            case "context":
                return _error(
                    400,
                    f"The input ({facts['prompt']} tokens) is longer than the model's context length "
                    f"({self.context_tokens} tokens).",
                )
            case "temperature":
                return _error(400, f"temperature must be a non-negative finite number, got {value}.")
            case "vocabulary":
                return Refusal(500, "", fatal=True)
            case "streamed_chat_ids":
                return _error(
                    400,
                    "return_token_ids is not supported with streaming on /v1/chat/completions. "
                    "Please set stream=false when using return_token_ids=true.",
                    "BadRequest",
                )
        return None

    def logprob(self, token: int, text: bytes, value: float) -> Json:
        return {"token": text.decode(errors="replace"), "bytes": list(text), "logprob": value}

    def error_event(self, message: str, status: int) -> Json:
        kind = "SERVICE_UNAVAILABLE" if status == 503 else "INTERNAL_SERVER_ERROR"
        return {"error": {"object": "error", "message": message, "type": kind, "param": None, "code": status}}

    def _usage(self, prompt: int, output: int, cached: int) -> Json:
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + output,
            "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": cached} if cached else None,
            "reasoning_tokens": 0,
            "completion_tokens_details": None,
        }

    def answer(self, call: Call, choices: list[Choice]) -> Json:
        chat = call.kind == "chat"
        prompt = choices[0].prompt_tokens if chat else sum(len(ids) for ids in call.prompt_ids)
        output = sum(c.output_tokens for c in choices)
        end = max((c.output_tokens for c in choices), default=0)
        return {
            "id": call.id,
            "object": "chat.completion" if chat else "text_completion",
            "created": call.created,
            "model": call.model,
            "choices": [self._whole_choice(call, c) for c in choices],
            "usage": self._usage(prompt, output, choices[0].cached_tokens),
            "metadata": {
                "weight_version": "default",
                "weight_versions": [{"version": "default", "start": 0, "end": end}],
            },
        }

    def _whole_choice(self, call: Call, choice: Choice) -> Json:
        body: Json = {"index": choice.index}
        if call.kind == "chat":
            body["message"] = {"role": "assistant", "content": choice.text, "reasoning_content": None}
        else:
            body["text"] = choice.text
        body["logprobs"] = self._logprobs(call, choice.logprobs)
        body["finish_reason"] = choice.finish_reason
        body["matched_stop"] = choice.stop_reason
        if call.return_token_ids:
            if call.kind == "chat":
                body["prompt_token_ids"] = call.prompt_ids[0]
                body["response_token_ids"] = choice.ids
            else:
                body["token_ids"] = choice.ids
                body["prompt_token_ids"] = call.prompt_ids[choice.index // call.n]
        return body

    def _logprobs(self, call: Call, entries: list[Json] | None) -> Json | None:
        if call.logprobs is None or entries is None:
            return None
        if call.kind == "chat":
            return {"content": entries}
        return {
            "tokens": [e["token"] for e in entries],
            "token_logprobs": [e["logprob"] for e in entries],
            "top_logprobs": [{t["token"]: t["logprob"] for t in e["top_logprobs"]} for e in entries],
            "text_offset": [-1 for _ in entries],
        }

    def _event(self, call: Call, choices: list[Json]) -> Json:
        return {
            "id": call.id,
            "object": "chat.completion.chunk" if call.kind == "chat" else "text_completion",
            "created": call.created,
            "model": call.model,
            "choices": choices,
        }

    def events(self, call: Call, piece: Piece) -> list[list[Json]]:
        if call.kind == "completion":
            return [[self._completion_event(call, piece)]]
        choice = piece.choice
        out = []

        def chunk(delta: Json, reason: str | None, logprobs: Json | None = None) -> Json:
            body = {
                "index": choice.index,
                "delta": {"reasoning_content": None} | delta,
                "logprobs": logprobs,
                "finish_reason": reason,
                "matched_stop": choice.stop_reason if reason is not None else None,
            }
            return self._event(call, [body])

        if piece.first:
            out.append([chunk({"role": "assistant", "content": ""}, None)])
        if piece.text:
            event = chunk({"content": piece.text}, None, self._logprobs(call, piece.logprobs))
            if call.continuous_usage:
                event["usage"] = self._usage(choice.prompt_tokens, choice.output_tokens, choice.cached_tokens)
            out.append([event])
        if choice.finish_reason is not None:
            out.append([chunk({}, choice.finish_reason)])
        return out

    def _completion_event(self, call: Call, piece: Piece) -> Json:
        choice = piece.choice
        body: Json = {
            "index": choice.index,
            "text": piece.text,
            "logprobs": self._logprobs(call, piece.logprobs),
            "finish_reason": choice.finish_reason,
            "matched_stop": choice.stop_reason,
        }
        if call.return_token_ids:
            body["token_ids"] = piece.ids
            if piece.first:
                body["prompt_token_ids"] = piece.prompt_ids
        usage = None
        if call.continuous_usage:
            usage = self._usage(choice.prompt_tokens, choice.output_tokens, choice.cached_tokens)
        return self._event(call, [body]) | {"usage": usage}

    def last_events(self, call: Call, choices: list[Choice]) -> list[Json]:
        if not call.include_usage:
            return []
        output = sum(c.output_tokens for c in choices)
        usage = self._usage(choices[0].prompt_tokens, output, choices[0].cached_tokens)
        if call.kind == "completion":
            usage = {k: v for k, v in usage.items() if v is not None}
        return [self._event(call, []) | {"usage": usage}]

    def models(self, created: int) -> Json:
        return {"object": "list", "data": [self._model(created)]}

    def _model(self, created: int) -> Json:
        return {
            "id": self.model,
            "object": "model",
            "created": created,
            "owned_by": "sglang",
            "root": self.model,
            "parent": None,
            "max_model_len": self.context_tokens,
        }

    def embeddings(self, model: str, vectors: list[Any], prompt_tokens: int, created: int) -> Json:
        return {
            "data": [{"embedding": v, "index": i, "object": "embedding"} for i, v in enumerate(vectors)],
            "model": model,
            "object": "list",
            "usage": {
                "prompt_tokens": prompt_tokens,
                "total_tokens": prompt_tokens,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
            },
        }

    def tokenized(self, ids: list[int], strings: list[str] | None) -> Json:
        return {"tokens": ids, "count": len(ids), "max_model_len": self.context_tokens}

    def detokenized(self, text: str) -> Json:
        return {"text": text}

    def health(self) -> bytes:
        return b""

    def pages(self, view: EngineView) -> dict[str, Any]:
        return {"/": "SGLang is running", f"/v1/models/{self.model}": self._model(0)}

    def metrics(self, view: EngineView) -> str:
        who = f'engine_type="unified",model_name="{view.model}"'
        rank = 'moe_ep_rank="0",pp_rank="0",priority="",tp_rank="0"'
        base = f"{who},{rank}"
        out: list[str] = []

        def family(name: str, kind: str, help_text: str, labels: str, value: float) -> None:
            out.append(f"# HELP sglang:{name} {help_text}")
            out.append(f"# TYPE sglang:{name} {kind}")
            out.append(f"sglang:{name}{{{labels}}} {float(value)}")

        used = round(view.kv_ratio * view.kv_tokens)
        hit_ratio = view.cached_tokens / view.prompt_tokens if view.prompt_tokens else 0.0
        family("num_running_reqs", "gauge", "The number of running requests.", base, view.running)
        family("num_queue_reqs", "gauge", "The number of requests in the waiting queue.", base, view.waiting)
        family("num_used_tokens", "gauge", "The number of used tokens.", base, used)
        family("token_usage", "gauge", "The token usage.", base, round(view.kv_ratio, 2))
        family("full_token_usage", "gauge", "The token usage for full attention.", base, view.kv_ratio)
        family("max_total_num_tokens", "gauge", "Maximum total number of tokens.", base, view.kv_tokens)
        family("page_size", "gauge", "The page size.", base, 1)
        family("num_pages", "gauge", "The number of pages.", base, view.kv_tokens)
        family("cache_hit_rate", "gauge", "The prefix cache hit rate.", base, hit_ratio)
        family("gen_throughput", "gauge", "The generation throughput (token/s).", base, view.output_tokens_per_s)
        family("utilization", "gauge", "The utilization.", base, 0)
        # The real one has no request counters and histograms before the first request is finished.
        if sum(view.finished.values()):
            # It counts streams and plain answers apart; nobody who adds them up can tell that we do not.
            kind = f'engine_type="unified",is_streaming="true",model_name="{view.model}",priority=""'
            plain = f'{who},priority=""'
            cached = f'cache_source="device",{plain}'
            family("prompt_tokens_total", "counter", "Number of prefill tokens processed.", kind, view.prompt_tokens)
            generated = "Number of generation tokens processed."
            family("generation_tokens_total", "counter", generated, kind, view.output_tokens)
            family("cached_tokens_total", "counter", "Number of cached prompt tokens.", cached, view.cached_tokens)
            done = sum(view.finished.values())
            family("num_requests_total", "counter", "Number of requests processed.", kind, done)
            for name, histogram in view.histograms.items():
                out += [f"# HELP sglang:{name} Histogram of {name}.", f"# TYPE sglang:{name} histogram"]
                labels = {"inter_token_latency_seconds": plain, "queue_time_seconds": base}.get(name, kind)
                out += histogram.lines(f"sglang:{name}", labels)
        if view.aborted:
            aborted = "Number of requests aborted."
            family("num_aborted_requests_total", "counter", aborted, f'{who},priority=""', view.aborted)
        return "\n".join(out) + "\n"
