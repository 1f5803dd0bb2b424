"""Why an answer cannot be continued by another backend: one table, and the reasons of which it is made.

The contract: going on must neither lose nor repeat a character, and what comes must be what the request asks for. A
request that asks for more than a text cannot promise that, nor can an answer that has more than a text in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.core.course import Stop

#: The words are labels of a metric and stand in the journal: keep them stable.
REASONS = {
    "off": "switched off in the configuration",
    "route": "neither a stream of a chat nor of a completion",
    "several_choices": "the request asks for several choices, or the answer has some",
    "tool_calls": "a tool call has begun, or is demanded",
    "guided": "the decoding is guided by a grammar or a schema: the rest would be guided from its beginning",
    "logprobs": "log probabilities were asked for",
    "reasoning": "the answer has reasoning in it",
    "odd_request": "the request asks for something that a rest cannot be asked for",
    "odd_answer": "the answer has something in it that is not text",
    "half_character": "the backend had sent half of a character",
    "too_long": "the answer is too long to be kept",
    "refused": "the backend ended the answer because of the request",
    "no_backend": "no other backend is left that can",
    "breaks": "it has broken off too often",
    "attempts": "too many backends have failed to go on",
    "deadly": "backends died of the request",
    "deadline": "the time that the client gave is over",
    "budget": "the retry budget of the region was used up",
    "shutting_down": "this router is being stopped",
}
#: of a course that stopped, the reason
OF_STOPS = {
    Stop.REJECTED: "no_backend",
    Stop.RULE: "refused",
    Stop.BREAKS: "breaks",
    Stop.ATTEMPTS: "attempts",
    Stop.DEADLY: "deadly",
    Stop.DEADLINE: "deadline",
    Stop.BUDGET: "budget",
}

_GUIDED = (
    "response_format",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_decoding_backend",
    "structured_outputs",
    "structural_tag",
    "grammar",
    "json_schema",
    "regex",
    "ebnf",
)
_LOGPROBS = ("logprobs", "top_logprobs", "prompt_logprobs", "n_probs")
_ODD = (
    "echo",
    "suffix",
    "use_beam_search",
    "audio",
    "modalities",
    "kv_transfer_params",
    "truncate_prompt_tokens",
    "prompt_embeds",
    "return_token_ids",
    "return_tokens_as_token_ids",
    "continuous_usage_stats",
)
#: Members of a body that ``reason_in`` looks at.
MEMBERS = (*_GUIDED, *_LOGPROBS, *_ODD, "tool_choice", "best_of")
_TEXT_FORMAT = {"type": "text"}


def reason_in(body: Mapping[str, Any]) -> str | None:
    """Why the answer to this request is not continued, by what its body asks for. None: nothing is in the way."""
    if any(body.get(name) is not None and body[name] is not False for name in _LOGPROBS):  # 0 asks for those chosen
        return "logprobs"
    if any(body.get(name) and body[name] != _TEXT_FORMAT for name in _GUIDED):
        return "guided"
    if body.get("tool_choice") not in (None, "auto", "none"):
        return "tool_calls"
    if any(body.get(name) and body[name] != ["text"] for name in _ODD) or body.get("best_of") not in (None, 1):
        return "odd_request"
    return None
