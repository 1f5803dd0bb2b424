"""llama.cpp's server (b11549), with --metrics."""

from __future__ import annotations

import random
import string
from typing import Any, ClassVar

from sim.shapes.base import Call, Choice, EngineView, Json, Piece, Refusal, Shape
from sim.text import tokenizer

_NO_IMAGES = "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj"
_ALPHABET = string.ascii_letters + string.digits


def _error(status: int, message: str, kind: str = "invalid_request_error", **more: Any) -> Refusal:
    return Refusal(status, {"error": {"code": status, "message": message, "type": kind} | more})


def _parse_error(at: int, text: str) -> Refusal:
    return _error(400, f"[json.exception.parse_error.101] parse error at line 1, column {at}: {text}")


def _json_type(value: Any) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


class LlamaCpp(Shape):
    name = "llamacpp"
    drains_by = "silence"
    json_suffix = "; charset=utf-8"
    minds_content_type = False
    continues_unasked = True
    tells_tokens = False
    completes_to_the_end = True
    version = "b11549"
    headers_at_once = False
    aborts_unstreamed = False
    requests_per_connection = 100
    head_health = True
    metrics_content_type = "text/plain; version=0.0.4"
    histogram_bounds: ClassVar[dict[str, tuple[float, ...]]] = {}

    def headers(self, *, stream: bool, status: int) -> dict[str, str]:
        headers = {"Server": "llama.cpp", "Access-Control-Allow-Origin": ""}
        if stream:
            headers |= {"X-Accel-Buffering": "no", "Content-Type": "text/event-stream"}
        if status >= 400:
            headers["Connection"] = "close"
        else:
            headers["Keep-Alive"] = "timeout=5, max=100"
        return headers

    def new_id(self, kind: str, asked: str | None) -> str:
        return "chatcmpl-" + "".join(random.choices(_ALPHABET, k=32))

    def refuse(self, kind: str, **facts: Any) -> Refusal | None:
        value: Any = facts.get("value")
        match kind:
            case "path" | "method":
                body = {"error": {"message": "File Not Found", "type": "not_found_error", "code": 404}}
                return Refusal(404, body)
            case "empty_body":
                text = "syntax error while parsing value - unexpected end of input; expected '[', '{', or a literal"
                return _parse_error(1, "attempting to parse an empty input; " + text)
            case "utf8":
                return _parse_error(1, "syntax error while parsing value - invalid string: ill-formed UTF-8 byte")
            case "json":
                return _parse_error(facts["at"] + 1, f"syntax error while parsing value - {facts['error']}")
            case "surrogate":
                text = "surrogate U+D800..U+DBFF must be followed by U+DC00..U+DFFF"
                return _parse_error(1, f"syntax error while parsing value - invalid string: {text}")
            case "not_object":
                return _error(400, "'messages' is required")
            case "missing":
                return _error(400, f"'{facts['field']}' is required")
            case "type":
                wrong = f"type must be {facts['wanted']}, but is {_json_type(value)}"
                return _error(400, f"Field '{facts['field']}': [json.exception.type_error.302] {wrong}")
            case "image":
                return _error(500, _NO_IMAGES, "server_error")
            case "max_tokens_low" if value < -1:
                text = f"Field 'max_tokens': Value must be between -1 <= value <= 2147483647, but got {value}"
                return _error(400, text)
            case "context":
                text = (
                    f"request ({facts['prompt']} tokens) exceeds the available context size "
                    f"({self.context_tokens} tokens), try increasing it"
                )
                more = {"n_prompt_tokens": facts["prompt"], "n_ctx": self.context_tokens}
                return _error(400, text, "exceed_context_size_error", **more)
            case "vocabulary":
                return _error(400, "Prompt contains invalid tokens")
            case "n" if value > self.sequences:
                return _error(400, f"Field 'n': Value must be between 1 <= value <= {self.sequences}, but got {value}")
            case "both_flags":
                return _error(400, "Cannot set both add_generation_prompt and continue_final_message to true.")
            case "broken":
                return _error(500, facts["message"], "server_error")
        return None

    def logprob(self, token: int, text: bytes, value: float) -> Json:
        return {"id": token, "token": text.decode(errors="replace"), "bytes": list(text), "logprob": value}

    def error_event(self, message: str, status: int) -> Json:
        return {"error": {"code": status, "message": message, "type": "server_error"}}

    def _usage(self, choice: Choice) -> Json:
        return {
            "completion_tokens": choice.output_tokens,
            "prompt_tokens": choice.prompt_tokens,
            "total_tokens": choice.prompt_tokens + choice.output_tokens,
            "prompt_tokens_details": {"cached_tokens": choice.cached_tokens},
        }

    def _timings(self, choice: Choice) -> Json:
        fresh = choice.prompt_tokens - choice.cached_tokens
        prompt_ms, output_ms = max(choice.prefill_s * 1000, 0.001), max(choice.decode_s * 1000, 0.001)
        output = choice.output_tokens
        return {
            "cache_n": choice.cached_tokens,
            "prompt_n": fresh,
            "prompt_ms": prompt_ms,
            "prompt_per_token_ms": prompt_ms / fresh if fresh else 0.0,
            "prompt_per_second": 1000 * fresh / prompt_ms,
            "predicted_n": output,
            "predicted_ms": output_ms,
            "predicted_per_token_ms": output_ms / output if output else 0.0,
            "predicted_per_second": 1000 * output / output_ms,
        }

    def answer(self, call: Call, choices: list[Choice]) -> Json:
        chat = call.kind == "chat"
        bodies: list[Json] = []
        for choice in choices:
            logprobs = {"content": choice.logprobs} if call.logprobs is not None else None
            if chat:
                # The plain answer repeats what it continues; the stream does not.
                message = {"role": "assistant", "content": call.partial + choice.text}
                body: Json = {"finish_reason": choice.finish_reason, "index": choice.index, "message": message}
                if logprobs is not None:
                    body["logprobs"] = logprobs
            else:
                body = {
                    "text": choice.text,
                    "index": choice.index,
                    "logprobs": logprobs,
                    "finish_reason": choice.finish_reason,
                }
            bodies.append(body)
        return {
            "choices": bodies,
            "created": call.created,
            "model": self.model,
            "system_fingerprint": f"{self.version}-sim",
            "object": "chat.completion" if chat else "text_completion",
            "usage": self._usage(choices[-1]),
            "id": call.id,
            "timings": self._timings(choices[-1]),
        }

    def _event(self, call: Call, choices: list[Json]) -> Json:
        event: Json = {"choices": choices, "created": call.created}
        if call.kind == "chat":
            event["id"] = call.id
        event |= {"model": self.model, "system_fingerprint": f"{self.version}-sim"}
        event["object"] = "chat.completion.chunk" if call.kind == "chat" else "text_completion"
        if call.kind == "completion":
            event["id"] = call.id
        return event

    def events(self, call: Call, piece: Piece) -> list[list[Json]]:
        choice = piece.choice
        logprobs = {"content": piece.logprobs} if call.logprobs is not None and piece.logprobs else None
        if call.kind == "completion":
            return self._completion_events(call, piece, logprobs)

        def chunk(delta: Json, reason: str | None) -> Json:
            return self._event(call, [{"finish_reason": reason, "index": choice.index, "delta": delta}])

        first: list[Json] = []
        if piece.first:
            first.append(chunk({"role": "assistant", "content": None}, None))
        if piece.text:
            event = chunk({"content": piece.text}, None)
            if logprobs is not None:
                event["choices"][0]["logprobs"] = logprobs
            first.append(event)
        out = [first] if first else []
        if choice.finish_reason is not None:
            last = [chunk({}, choice.finish_reason)]
            if call.include_usage:
                last.append(self._event(call, []) | {"usage": self._usage(choice)})
            last[-1]["timings"] = self._timings(choice)
            out.append(last)
        return out

    def _completion_events(self, call: Call, piece: Piece, logprobs: Json | None) -> list[list[Json]]:
        choice = piece.choice
        out = []

        def chunk(text: str, reason: str | None) -> Json:
            body = {"text": text, "index": choice.index, "logprobs": logprobs, "finish_reason": reason}
            return self._event(call, [body])

        if piece.text:
            out.append([chunk(piece.text, None)])
        if choice.finish_reason is not None:
            last = chunk("", choice.finish_reason)
            last["usage"] = self._usage(choice)
            last["id"] = last.pop("id")
            last["timings"] = self._timings(choice)
            out.append([last])
        return out

    def last_events(self, call: Call, choices: list[Choice]) -> list[Json]:
        return []

    def models(self, created: int) -> Json:
        about = {
            "name": self.model,
            "model": self.model,
            "modified_at": "",
            "size": "",
            "digest": "",
            "type": "model",
            "description": "",
            "tags": [""],
            "capabilities": ["completion"],
            "parameters": "",
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": "",
                "families": [""],
                "parameter_size": "",
                "quantization_level": "",
            },
        }
        data = {
            "id": self.model,
            "aliases": [self.model],
            "tags": [],
            "object": "model",
            "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "created": created,
            "owned_by": "llamacpp",
            "meta": {
                "vocab_type": 2,
                "n_vocab": tokenizer().size,
                "n_ctx": self.context_tokens,
                "n_ctx_train": self.context_tokens,
                "n_embd": 64,
                "n_params": 0,
                "size": 0,
                "ftype": "all F32",
            },
        }
        return {"models": [about], "object": "list", "data": [data]}

    def embeddings(self, model: str, vectors: list[Any], prompt_tokens: int, created: int) -> Json:
        return {
            "model": model,
            "object": "list",
            "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
            "data": [{"embedding": v, "index": i, "object": "embedding"} for i, v in enumerate(vectors)],
        }

    def tokenized(self, ids: list[int], strings: list[str] | None) -> Json:
        return {"tokens": ids}

    def detokenized(self, text: str) -> Json:
        return {"content": text}

    def health(self) -> bytes:
        return b'{"status":"ok"}'

    def pages(self, view: EngineView) -> dict[str, Any]:
        slots = [
            {"id": i, "n_ctx": self.context_tokens, "speculative": False, "is_processing": i < view.running}
            for i in range(view.sequences)
        ]
        return {"/slots": slots}

    def metrics(self, view: EngineView) -> str:
        fresh = view.prompt_tokens - view.cached_tokens
        out: list[str] = []
        for name, kind, help_text, value in (
            ("prompt_tokens_total", "counter", "Number of prompt tokens processed, excluding cached tokens", fresh),
            (
                "prompt_tokens_cached_total",
                "counter",
                "Number of prompt tokens reused from the cache",
                view.cached_tokens,
            ),
            ("tokens_predicted_total", "counter", "Number of generation tokens processed", view.output_tokens),
            ("n_decode_total", "counter", "Total number of llama_decode() calls", view.iterations),
            (
                "predicted_tokens_seconds",
                "gauge",
                "Average generation throughput in tokens/s",
                view.output_tokens_per_s,
            ),
            ("requests_processing", "gauge", "Number of requests processing", view.running),
            ("requests_deferred", "gauge", "Number of requests deferred", view.waiting),
        ):
            out.append(f"# HELP llamacpp:{name} {help_text}")
            out.append(f"# TYPE llamacpp:{name} {kind}")
            out.append(f"llamacpp:{name} {value:g}")
        return "\n".join(out) + "\n"
