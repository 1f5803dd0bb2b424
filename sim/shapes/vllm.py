"""vLLM 0.32 (V1 engine), with --enable-prompt-tokens-details."""

from __future__ import annotations

import uuid
from itertools import accumulate
from typing import Any, ClassVar

from sim.shapes.base import Call, Choice, EngineView, Json, Piece, Refusal, Shape

_TTFT = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
_ITL = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_LATENCY = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip

_BUSY = (
    "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
)


def _error(status: int, message: str, kind: str = "BadRequestError", param: str | None = None) -> Refusal:
    return Refusal(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def _invalid(problem: str, loc: str, message: str, shown: str, extra: str = "") -> Refusal:
    text = (
        f"1 validation error:\n  {{'type': '{problem}', 'loc': '{loc}', 'msg': '{message}', 'input': '{shown}'{extra}}}"
    )
    return _error(400, text, "Bad Request", loc)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"<{type(value).__name__} of {len(value)} items>"
    return str(value)


class Vllm(Shape):
    name = "vllm"
    drains_by = "error"
    keeps_last_role = True
    counts_maximum = True
    reports_load = True
    version = "0.32.0"
    headers_at_once = True
    aborts_unstreamed = True
    metrics_content_type = "text/plain; version=1.0.0; charset=utf-8"
    histogram_bounds: ClassVar[dict[str, tuple[float, ...]]] = {
        "time_to_first_token_seconds": _TTFT,
        "inter_token_latency_seconds": _ITL,
        "e2e_request_latency_seconds": _LATENCY,
        "request_queue_time_seconds": _LATENCY,
        "request_prefill_time_seconds": _LATENCY,
        "request_decode_time_seconds": _LATENCY,
    }

    @property
    def _fingerprint(self) -> str:
        return f"vllm-{self.version}-51ed0a7e"

    def headers(self, *, stream: bool, status: int) -> dict[str, str]:
        headers = {"Server": "uvicorn", "Vary": "Origin"}
        if stream:
            headers["Content-Type"] = "text/event-stream; charset=utf-8"
        return headers

    def new_id(self, kind: str, asked: str | None) -> str:
        prefix = {"chat": "chatcmpl", "completion": "cmpl", "embedding": "embd"}[kind]
        return f"{prefix}-{asked or uuid.uuid4().hex[:16]}"

    def refuse(self, kind: str, **facts: Any) -> Refusal | None:
        match kind:
            case "path":
                return Refusal(404, {"detail": "Not Found"})
            case "method":
                return Refusal(405, {"detail": "Method Not Allowed"}, (("Allow", facts["allow"]),))
            case "empty_body":
                return _invalid("missing", "body", "Field required", "None")
            case "utf8":
                return Refusal(400, {"detail": "There was an error parsing the body"})
            case "json":
                at = f"body.{facts['at']}"
                extra = f", 'ctx': {{'error': '{facts['error']}'}}"
                return _invalid("json_invalid", at, "JSON decode error", "<dict of 0 items>", extra)
            case "surrogate":
                return _error(
                    400, "TextEncodeInput must be Union[TextInputSequence, Tuple[InputSequence, InputSequence]]"
                )
            case "not_object":
                message = "Input should be a valid dictionary or object to extract fields from"
                return _invalid("model_attributes_type", "body", message, _shown(facts["value"]))
            case "missing":
                return _invalid("missing", f"body.{facts['field']}", "Field required", _shown(facts["body"]))
            case "type":
                return _invalid(facts["problem"], f"body.{facts['field']}", facts["message"], _shown(facts["value"]))
            case "content_type":
                text = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
                return _error(400, text, "Bad Request")
            case "queue_full":
                return _error(503, _BUSY, "Service Unavailable")
            case "broken":
                return _error(500, facts["message"], "InternalServerError")
        return self._refuse_value(kind, facts)

    def _refuse_value(self, kind: str, facts: dict[str, Any]) -> Refusal | None:
        value = facts.get("value")
        match kind:
            case "model":
                return _error(404, f"The model `{value}` does not exist.", "NotFoundError", "model")
            case "empty_messages":
                return _error(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")
            case "image":
                return _error(400, f"{self.model} is not a multimodal model")
            case "max_tokens_low":
                text = f"max_tokens must be at least 1, got {value}. (parameter=max_tokens, value={value})"
                return _error(400, text, param="max_tokens")
            case "max_tokens_high":
                text = (
                    f"max_tokens={value} cannot be greater than max_model_len={self.context_tokens}. "
                    f"Please request fewer output tokens. (parameter=max_tokens, value={value})"
                )
                return _error(400, text, param="max_tokens")
            case "context":
                prompt, output = facts["prompt"], facts["output"]
                text = (
                    f"This model's maximum context length is {self.context_tokens} tokens. However, you requested "
                    f"{output} output tokens and your prompt contains {prompt} input tokens, for a total of "
                    f"{prompt + output} tokens. Please reduce the length of the input prompt or the number of "
                    f"requested output tokens. (parameter=input_tokens, value={prompt})"
                )
                return _error(400, text, param="input_tokens")
            case "temperature":
                text = f"temperature must be non-negative, got {value}. (parameter=temperature, value={value})"
                return _error(400, text, param="temperature")
            case "vocabulary":
                return _error(400, f"Token id {value} is out of vocabulary")
            case "both_flags":
                return _error(400, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
            case "greedy_n":
                return _error(400, f"n must be 1 when using greedy sampling, got {value}.")
            case "stream_options":
                text = "Stream options can only be defined when `stream=True`. (parameter=stream_options)"
                return _error(400, text, param="stream_options")
        return None

    def error_event(self, message: str, status: int) -> Json:
        return {"error": {"message": message, "type": "InternalServerError", "param": None, "code": status}}

    def _usage(self, choices: list[Choice], *, details: bool = True) -> Json:
        prompt, output = choices[0].prompt_tokens, sum(c.output_tokens for c in choices)
        usage: Json = {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}
        if details:
            cached = choices[0].cached_tokens
            usage["prompt_tokens_details"] = {"cached_tokens": cached, "created_cache_tokens": 0}
        return usage

    def answer(self, call: Call, choices: list[Choice]) -> Json:
        chat = call.kind == "chat"
        usage = self._usage(choices)
        if not chat:
            usage["prompt_tokens"] = sum(len(ids) for ids in call.prompt_ids)
            usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
            usage["prompt_tokens_details"]["created_cache_tokens"] = None
        usage["prompt_tokens_details"]["multimodal_tokens"] = None
        usage["completion_tokens_details"] = None
        body: Json = {
            "id": call.id,
            "object": "chat.completion" if chat else "text_completion",
            "created": call.created,
            "model": call.model,
            "choices": [self._whole_choice(call, c) for c in choices],
            "service_tier": None,
            "system_fingerprint": self._fingerprint,
            "usage": usage,
        }
        if chat:
            body["prompt_logprobs"] = None
            body["prompt_token_ids"] = call.prompt_ids[0] if call.return_token_ids else None
            body["prompt_text"] = None
        return body | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}

    def _whole_choice(self, call: Call, choice: Choice) -> Json:
        body: Json = {"index": choice.index}
        if call.kind == "chat":
            body["message"] = {
                "role": call.role,
                "content": choice.text,
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "reasoning": None,
            }
        else:
            body["text"] = choice.text
        body["logprobs"] = self._logprobs(call, choice.logprobs)
        body["finish_reason"] = choice.finish_reason
        body["stop_reason"] = choice.stop_reason
        body["token_ids"] = choice.ids if call.return_token_ids else None
        if call.kind == "completion":
            body["prompt_logprobs"] = None
            prompt_ids = call.prompt_ids[choice.index // call.n]
            body["prompt_token_ids"] = prompt_ids if call.return_token_ids else None
        body["routed_experts"] = None
        return body

    def _logprobs(self, call: Call, entries: list[Json] | None) -> Json | None:
        if call.logprobs is None or entries is None:
            return None
        if call.kind == "chat":
            return {"content": entries}
        ends = list(accumulate(len(e["token"]) for e in entries))
        return {
            "text_offset": [0, *ends[:-1]],
            "token_logprobs": [e["logprob"] for e in entries],
            "tokens": [e["token"] for e in entries],
            "top_logprobs": [{t["token"]: t["logprob"] for t in e["top_logprobs"]} for e in entries],
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
        choice = piece.choice
        out: list[list[Json]] = []
        if call.kind == "chat":
            if piece.first:
                delta = {"role": call.role, "content": ""}
                head = self._event(
                    call, [{"index": choice.index, "delta": delta, "logprobs": None, "finish_reason": None}]
                )
                if call.continuous_usage:
                    head["usage"] = self._running_usage(choice, 0)
                head["prompt_token_ids"] = piece.prompt_ids if call.return_token_ids else None
                head["prompt_text"] = None
                out.append([head])
            body: Json = {"index": choice.index, "delta": {"content": piece.text}}
        else:
            body = {"index": choice.index, "text": piece.text}
        body["logprobs"] = self._logprobs(call, piece.logprobs)
        body["finish_reason"] = choice.finish_reason
        if choice.finish_reason is not None or call.kind == "completion":
            body["stop_reason"] = choice.stop_reason
        if call.kind == "completion":
            body["prompt_token_ids"] = piece.prompt_ids if call.return_token_ids and piece.first else None
        body["token_ids"] = piece.ids if call.return_token_ids else None
        event = self._event(call, [body])
        if call.continuous_usage:
            event["usage"] = self._running_usage(choice, choice.output_tokens)
        if choice.finish_reason is not None and not call.include_usage:
            event["system_fingerprint"] = self._fingerprint
        out.append([event])
        return out

    def _running_usage(self, choice: Choice, output: int) -> Json:
        return {
            "prompt_tokens": choice.prompt_tokens,
            "total_tokens": choice.prompt_tokens + output,
            "completion_tokens": output,
            "completion_tokens_details": None,
        }

    def last_events(self, call: Call, choices: list[Choice]) -> list[Json]:
        if not call.include_usage:
            return []
        event = self._event(call, [])
        event["usage"] = self._usage(choices)
        if call.kind == "completion":
            del event["usage"]["prompt_tokens_details"]["created_cache_tokens"]
        event["system_fingerprint"] = self._fingerprint
        return [event]

    def models(self, created: int) -> Json:
        permission = {
            "id": f"modelperm-{uuid.uuid4().hex[:16]}",
            "object": "model_permission",
            "created": created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        model = {
            "id": self.model,
            "object": "model",
            "created": created,
            "owned_by": "vllm",
            "root": self.model,
            "parent": None,
            "max_model_len": self.context_tokens,
            "permission": [permission],
        }
        return {"object": "list", "data": [model]}

    def embeddings(self, model: str, vectors: list[Any], prompt_tokens: int, created: int) -> Json:
        return {
            "id": self.new_id("embedding", None),
            "object": "list",
            "created": created,
            "model": model,
            "data": [{"index": i, "object": "embedding", "embedding": v} for i, v in enumerate(vectors)],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "total_tokens": prompt_tokens,
                "completion_tokens": 0,
                "prompt_tokens_details": None,
                "completion_tokens_details": None,
            },
        }

    def tokenized(self, ids: list[int], strings: list[str] | None) -> Json:
        return {"count": len(ids), "max_model_len": self.context_tokens, "tokens": ids, "token_strs": strings}

    def detokenized(self, text: str) -> Json:
        return {"prompt": text}

    def health(self) -> bytes:
        return b""

    def pages(self, view: EngineView) -> dict[str, Any]:
        return {"/version": {"version": self.version}, "/load": {"server_load": view.running + view.waiting}}

    def metrics(self, view: EngineView) -> str:
        base = f'engine="0",model_name="{view.model}"'
        out: list[str] = []

        def family(name: str, kind: str, help_text: str, *samples: tuple[str, float]) -> None:
            out.append(f"# HELP vllm:{name} {help_text}")
            out.append(f"# TYPE vllm:{name} {kind}")
            out.extend(f"vllm:{name}{{{labels}}} {float(value)}" for labels, value in samples)

        family("num_requests_running", "gauge", "Number of requests in model execution batches.", (base, view.running))
        family("num_requests_waiting", "gauge", "Number of requests waiting to be processed.", (base, view.waiting))
        family(
            "num_requests_waiting_by_reason",
            "gauge",
            "Number of waiting requests by reason.",
            (f'{base},reason="capacity"', view.waiting),
            (f'{base},reason="deferred"', 0),
        )
        family(
            "engine_sleep_state",
            "gauge",
            "Engine sleep state.",
            (f'{base},sleep_state="awake"', 1),
            (f'{base},sleep_state="weights_offloaded"', 0),
            (f'{base},sleep_state="discard_all"', 0),
        )
        usage = "KV-cache usage. 1 means 100 percent usage."
        family("kv_cache_usage_perc", "gauge", usage, (base, view.kv_ratio))
        queried = "Prefix cache queries, in terms of number of queried tokens."
        family("prefix_cache_queries_total", "counter", queried, (base, view.prompt_tokens))
        hit = "Prefix cache hits, in terms of number of cached tokens."
        family("prefix_cache_hits_total", "counter", hit, (base, view.cached_tokens))
        family("num_preemptions_total", "counter", "Cumulative number of preemption from the engine.", (base, 0))
        family("prompt_tokens_total", "counter", "Number of prefill tokens processed.", (base, view.prompt_tokens))
        cached = "Number of cached prompt tokens (local + external)."
        family("prompt_tokens_cached_total", "counter", cached, (base, view.cached_tokens))
        family(
            "generation_tokens_total", "counter", "Number of generation tokens processed.", (base, view.output_tokens)
        )
        family(
            "request_success_total",
            "counter",
            "Count of successfully processed requests.",
            *(
                (f'engine="0",finished_reason="{reason}",model_name="{view.model}"', view.finished.get(reason, 0))
                for reason in ("stop", "length", "abort", "error", "repetition")
            ),
        )
        family(
            "admission_rejections_total",
            "counter",
            "Number of admission attempts rejected by a queue limit, by reason.",
            (f'model_name="{view.model}",reason="max_num_queued_reqs"', view.rejected),
            (f'model_name="{view.model}",reason="max_num_queued_tokens"', 0),
        )
        for name, histogram in view.histograms.items():
            out += [f"# HELP vllm:{name} Histogram of {name}.", f"# TYPE vllm:{name} histogram"]
            out += histogram.lines(f"vllm:{name}", base)
        blocks = view.kv_tokens // view.block_tokens
        info = (
            f'block_size="{view.block_tokens}",cache_dtype="auto",enable_prefix_caching="True",engine="0",'
            f'kv_cache_size_tokens="{view.kv_tokens}",num_gpu_blocks="{blocks}"'
        )
        family("cache_config_info", "gauge", "Information of the LLMEngine CacheConfig", (info, 1))
        return "\n".join(out) + "\n"
