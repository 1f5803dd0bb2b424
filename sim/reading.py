"""Reading and checking a client's request, as strictly or loosely as the engine that is being played."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import orjson

from sim.shapes.base import Call, RefusedError, Shape
from sim.text import tokenizer

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


def refuse(shape: Shape, kind: str, **facts: Any) -> None:
    """Raises RefusedError unless this engine does not mind.

    Kinds: path method empty_body utf8 json surrogate not_object missing type content_type model empty_messages image
    max_tokens_low max_tokens_high context temperature vocabulary both_flags greedy_n n stream_options
    streamed_chat_ids queue_full fields prompt_ids broken.
    """
    refusal = shape.refuse(kind, **facts)
    if refusal is not None:
        raise RefusedError(refusal)


def read_json(shape: Shape, raw: bytes, content_type: str) -> dict[str, Any]:
    if not raw:
        refuse(shape, "empty_body")
    if content_type and content_type.split(";")[0].strip().lower() != "application/json":
        refuse(shape, "content_type")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as exc:
        _refuse_unreadable(shape, raw, str(exc))
        body = {}
    if not isinstance(body, dict):
        refuse(shape, "not_object", value=body)
    return body if isinstance(body, dict) else {}


def _refuse_unreadable(shape: Shape, raw: bytes, error: str) -> None:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        refuse(shape, "utf8")
        return
    try:
        json.loads(text)
    except ValueError as exc:
        at = exc.pos if isinstance(exc, json.JSONDecodeError) else 0
        refuse(shape, "json", at=at, error=exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc))
    # Python's parser takes what orjson does not: lone surrogates, NaN.
    refuse(shape, "surrogate" if "surrogate" in error else "json", at=0, error=error)


class Reader:
    """One per request: looks at the fields in turn."""

    def __init__(self, shape: Shape, body: dict[str, Any], headers: Mapping[str, str]) -> None:
        self._shape = shape
        self._body = body
        self._request_id = headers.get("X-Request-Id")

    def chat(self) -> Call:
        shape, body = self._shape, self._body
        if "messages" not in body:
            refuse(shape, "missing", field="messages", body=body)
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            message = "Input should be a valid list"
            refuse(
                shape, "type", field="messages", problem="list_type", wanted="array", message=message, value=messages
            )
            messages = []
        if not messages:
            refuse(shape, "empty_messages")
        asked_to_continue = bool(body.get("continue_final_message", False))
        generation_prompt = bool(body.get("add_generation_prompt", not asked_to_continue))
        if asked_to_continue and generation_prompt:
            refuse(shape, "both_flags")
        last_role = messages[-1].get("role") if messages else None
        continues = asked_to_continue or (shape.continues_unasked and last_role == "assistant")
        context, partial = self._template(messages, continues, generation_prompt)
        call = self._call("chat", [context])
        if continues:
            call.partial = partial
            if last_role != "assistant" and shape.keeps_last_role:
                call.role = str(last_role)
        return call

    def completion(self) -> Call:
        shape, body = self._shape, self._body
        if "prompt" not in body:
            refuse(shape, "missing", field="prompt", body=body)
        prompt = body.get("prompt")
        if isinstance(prompt, list) and not shape.takes_token_ids:
            refuse(shape, "prompt_ids")
        if isinstance(prompt, str):
            contexts = [prompt.encode()]
        elif isinstance(prompt, list) and prompt and all(isinstance(t, int) for t in prompt):
            contexts = [self._from_ids(prompt)]
        elif isinstance(prompt, list) and prompt and all(isinstance(p, str) for p in prompt):
            contexts = [p.encode() for p in prompt]
        elif isinstance(prompt, list) and prompt and all(isinstance(p, list) for p in prompt):
            contexts = [self._from_ids(p) for p in prompt]
        else:
            message = "Input should be a valid string"
            refuse(shape, "type", field="prompt", problem="string_type", wanted="string", message=message, value=prompt)
            contexts = [b""]
        return self._call("completion", contexts)

    def inputs(self) -> list[bytes]:
        """The texts of an embedding request."""
        if "input" not in self._body:
            refuse(self._shape, "missing", field="input", body=self._body)
        value = self._body.get("input")
        if isinstance(value, str):
            return [value.encode()]
        if isinstance(value, list) and value and all(isinstance(t, int) for t in value):
            return [self._from_ids(value)]
        if isinstance(value, list) and value:
            return [p.encode() if isinstance(p, str) else self._from_ids(p) for p in value]
        message = "Input should be a valid string"
        refuse(self._shape, "type", field="input", problem="string_type", wanted="string", message=message, value=value)
        return []

    def text(self) -> bytes:
        """What /tokenize is asked about."""
        body = self._body
        if isinstance(body.get("messages"), list):
            return self._template(body["messages"], False, bool(body.get("add_generation_prompt", True)))[0]
        return str(body.get("prompt", body.get("content", ""))).encode()

    def model(self) -> str:
        asked = self._body.get("model")
        if asked is None:
            return self._shape.default_model or self._shape.model
        if asked != self._shape.model:
            refuse(self._shape, "model", value=asked)
        return str(asked)

    def _from_ids(self, ids: list[Any]) -> bytes:
        size = tokenizer().size
        for token in ids:
            if not isinstance(token, int) or not 0 <= token < size:
                refuse(self._shape, "vocabulary", value=token)
        return tokenizer().decode(ids)

    def _template(self, messages: list[Any], continues: bool, generation_prompt: bool) -> tuple[bytes, str]:
        parts = []
        if self._body.get("tools"):
            parts.append(f"<|system|>{json.dumps(self._body['tools'])}<|end|>")
        text = ""
        for i, message in enumerate(messages):
            role = _ROLES.get(str(message.get("role")), "user")
            text = self._content(message.get("content"))
            end = "" if continues and i == len(messages) - 1 else "<|end|>"
            parts.append(f"<|{role}|>{text}{end}")
        if generation_prompt and not continues:
            parts.append("<|assistant|>")
        try:
            return "".join(parts).encode(), text
        except UnicodeEncodeError:
            refuse(self._shape, "surrogate")
            return b"", ""

    def _content(self, content: Any) -> str:
        if content is None:
            return ""
        if isinstance(content, str):
            return content
        texts = []
        for part in content if isinstance(content, list) else []:
            if isinstance(part, dict) and part.get("type") == "text":
                texts.append(str(part.get("text", "")))
            elif isinstance(part, str):
                texts.append(part)
            else:
                refuse(self._shape, "image")
        return "\n".join(texts)

    def _call(self, kind: str, contexts: list[bytes]) -> Call:
        shape, body = self._shape, self._body
        if shape.fields is not None and (unknown := body.keys() - shape.fields):
            refuse(shape, "fields", value=unknown)
        model = self.model()
        stream = body.get("stream") is True
        options = body.get("stream_options")
        if options is not None and not stream:
            refuse(shape, "stream_options")
        options = options if isinstance(options, dict) and stream else {}
        temperature = self._number("temperature", 0.0)
        if temperature < 0:
            refuse(shape, "temperature", value=float(temperature))
        n = int(self._number("n", 1))
        if n > 1 and "temperature" in body and temperature == 0:
            refuse(shape, "greedy_n", value=n)
        refuse(shape, "n", value=n)
        if shape.always_one:
            n = 1
        ids = [tokenizer().encode(c) for c in contexts]
        call = Call(
            kind=kind,
            id=shape.new_id(kind, self._request_id),
            created=int(time.time()),
            model=model,
            contexts=contexts,
            prompt_ids=ids,
            max_tokens=self._max_tokens(kind, max(len(i) for i in ids)),
            n=max(1, n),
            stream=stream,
            include_usage=bool(options.get("include_usage")),
            continuous_usage=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
            stop=self._stop(),
            sampled=temperature > 0,
            seed=int(self._number("seed", 0)) if body.get("seed") is not None else None,
            logprobs=self._logprobs(kind),
            echo=bool(body.get("echo")) and shape.tells_tokens,
            return_token_ids=bool(body.get("return_token_ids")) and shape.tells_tokens,
            ignore_eos=bool(body.get("ignore_eos")),
        )
        if call.return_token_ids and stream and kind == "chat":
            refuse(shape, "streamed_chat_ids")
        return call

    def _number(self, field: str, default: float) -> float:
        value = self._body.get(field)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            message = "Input should be a valid number, unable to parse string as a number"
            refuse(
                self._shape, "type", field=field, problem="float_parsing", wanted="number", message=message, value=value
            )
            return default
        return value

    def _max_tokens(self, kind: str, prompt_tokens: int) -> int:
        shape = self._shape
        room = shape.context_tokens - prompt_tokens
        field = "max_completion_tokens" if self._body.get("max_completion_tokens") is not None else "max_tokens"
        if self._body.get(field) is None:
            if room <= 0:
                refuse(shape, "context", prompt=prompt_tokens, output=1)
            return max(0, room if kind == "chat" or shape.completes_to_the_end else min(16, room))
        wanted = int(self._number(field, 0))
        if wanted < 1:
            refuse(shape, "max_tokens_low", value=wanted)
            wanted = room if wanted < 0 else shape.tokens_for_zero
        if wanted > shape.context_tokens:
            refuse(shape, "max_tokens_high", value=wanted)
        if room <= 0 or (wanted > room and shape.counts_maximum):
            refuse(shape, "context", prompt=prompt_tokens, output=wanted)
        return min(wanted, max(0, room))

    def _stop(self) -> tuple[str, ...]:
        stop = self._body.get("stop")
        if isinstance(stop, str):
            return (stop,) if stop else ()
        return tuple(s for s in stop if isinstance(s, str) and s) if isinstance(stop, list) else ()

    def _logprobs(self, kind: str) -> int | None:
        wanted = self._body.get("logprobs")
        if kind == "chat":
            return int(self._number("top_logprobs", 0)) if wanted is True else None
        return int(self._number("logprobs", 0)) if wanted is not None and wanted is not False else None
