"""A model for llama.cpp that is made on the spot: it says nonsense, always the same, one token for each character.

Every text has exactly one tokenisation, so an answer that goes on after a part of it must be the very answer that it
would have been. The weights are noise in 32 bits; greedy decoding never chooses a special token, so an answer runs to its
limit. The file format is GGUF, version 3, of which this writes the least that llama.cpp reads.
"""

from __future__ import annotations

import random
import struct
from array import array
from pathlib import Path
from typing import Any

_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _INT32 = 4, 6, 7, 8, 9, 5
_ALIGNMENT = 32
_SPECIAL = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
#: Characters as byte-level tokenisers spell them: a line break is Ċ, a space is Ġ.
VOCABULARY = [*_SPECIAL, "\u010a", "\u0120", *map(chr, range(33, 127))]
_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + '\n' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def write_ascii_model(path: Path, *, hidden: int = 128, layers: int = 2, context: int = 8192) -> None:
    """About two megabytes for the usual size."""
    heads, wide, count = 2, 4 * hidden, len(VOCABULARY)
    facts: list[tuple[str, int, Any]] = [
        ("general.architecture", _STRING, "llama"),
        ("general.alignment", _UINT32, _ALIGNMENT),
        ("llama.context_length", _UINT32, context),
        ("llama.embedding_length", _UINT32, hidden),
        ("llama.block_count", _UINT32, layers),
        ("llama.feed_forward_length", _UINT32, wide),
        ("llama.attention.head_count", _UINT32, heads),
        ("llama.attention.head_count_kv", _UINT32, heads),
        ("llama.rope.dimension_count", _UINT32, hidden // heads),
        ("llama.rope.freq_base", _FLOAT32, 10000.0),
        ("llama.attention.layer_norm_rms_epsilon", _FLOAT32, 1e-6),
        ("llama.vocab_size", _UINT32, count),
        ("tokenizer.ggml.model", _STRING, "gpt2"),
        ("tokenizer.ggml.pre", _STRING, "gpt-2"),
        ("tokenizer.ggml.tokens", _ARRAY, (_STRING, VOCABULARY)),
        ("tokenizer.ggml.token_type", _ARRAY, (_INT32, [3 if i < len(_SPECIAL) else 1 for i in range(count)])),
        ("tokenizer.ggml.merges", _ARRAY, (_STRING, ["\u0100 \u0100"])),  # it insists on one; this one never applies
        ("tokenizer.ggml.bos_token_id", _UINT32, 1),
        ("tokenizer.ggml.eos_token_id", _UINT32, 2),
        ("tokenizer.ggml.unknown_token_id", _UINT32, 0),
        ("tokenizer.ggml.padding_token_id", _UINT32, 2),
        ("tokenizer.ggml.add_bos_token", _BOOL, False),
        ("tokenizer.chat_template", _STRING, _TEMPLATE),
    ]
    rng = random.Random(0)
    head = _noise(rng, count * hidden)
    head[: len(_SPECIAL) * hidden] = array("f", bytes(4 * len(_SPECIAL) * hidden))
    tensors = [
        ("token_embd.weight", (hidden, count), _noise(rng, count * hidden)),
        ("output.weight", (hidden, count), head),
        ("output_norm.weight", (hidden,), array("f", [1.0] * hidden)),
    ]
    for layer in range(layers):
        shapes = {f"attn_{part}": (hidden, hidden) for part in ("q", "k", "v", "output")}
        shapes |= {"ffn_gate": (hidden, wide), "ffn_up": (hidden, wide), "ffn_down": (wide, hidden)}
        tensors += [
            (f"blk.{layer}.{name}.weight", shape, _noise(rng, shape[0] * shape[1])) for name, shape in shapes.items()
        ]
        tensors += [
            (f"blk.{layer}.{name}.weight", (hidden,), array("f", [1.0] * hidden)) for name in ("attn_norm", "ffn_norm")
        ]
    out = [struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(facts))]
    out += [_string(name) + struct.pack("<I", kind) + _value(kind, value) for name, kind, value in facts]
    offset = 0
    for name, shape, values in tensors:
        out.append(_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset))
        offset += _padded(4 * len(values))
    size = sum(map(len, out))
    out.append(bytes(_padded(size) - size))
    for _, _, values in tensors:
        data = values.tobytes()
        out.append(data + bytes(_padded(len(data)) - len(data)))
    path.write_bytes(b"".join(out))


def _noise(rng: random.Random, count: int) -> array[float]:
    """Even noise with a deviation of 0.2."""
    return array("f", [(rng.random() - 0.5) * 0.69 for _ in range(count)])


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _string(value)
    if kind == _ARRAY:
        inner, values = value
        return struct.pack("<IQ", inner, len(values)) + b"".join(_value(inner, each) for each in values)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?"}[kind], value)
