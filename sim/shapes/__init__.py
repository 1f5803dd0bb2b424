"""How each kind of engine words its answers. Held against recorded answers of the real ones by the tests.

base      what a shape must be able to word
vllm      vLLM
sglang    SGLang
llamacpp  llama.cpp's server
openai    anything else with OpenAI's API
"""

from __future__ import annotations

from sim.shapes.base import Shape
from sim.shapes.llamacpp import LlamaCpp
from sim.shapes.openai import OpenAI
from sim.shapes.sglang import SGLang
from sim.shapes.vllm import Vllm

SHAPES: dict[str, type[Shape]] = {"vllm": Vllm, "sglang": SGLang, "llamacpp": LlamaCpp, "openai": OpenAI}
