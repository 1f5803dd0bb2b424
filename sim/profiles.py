"""How fast a GPU serves a model, as the few numbers the engine model needs, each with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Profile:
    """One iteration of the engine takes

    ``iteration_s + prefill_token_s * new prompt tokens + attention_s * (their pairs with earlier tokens)
    + sequence_s * decoding sequences + context_token_s * (tokens those sequences look back on)``.
    """

    name: str
    summary: str
    source: str
    iteration_s: float
    prefill_token_s: float
    attention_s: float
    sequence_s: float
    context_token_s: float
    kv_tokens: int  # capacity of the KV cache
    batch_tokens: int  # most tokens of one iteration (vLLM: max_num_batched_tokens)
    sequences: int  # most requests that run at once (vLLM: max_num_seqs)
    context_tokens: int  # longest prompt plus answer (vLLM: max_model_len)
    block_tokens: int = 16
    intake_s: float = 0.0  # HTTP, template, tokeniser: before the scheduler sees the request
    cost_usd_hour: float = 0.0


_NIM = "NVIDIA NIM LLM benchmarking guide 1.0.0, docs.nvidia.com/nim/benchmarking/llm/1.0.0/performance"
_NIM_A100 = (
    "NIM performance of an 8B model, A100 80GB SXM, BF16, docs.nvidia.com/nim/llama-3-1-nemotron-safety-guard-8b/1.10.1"
)
_SWEEP_A100 = (
    "J. Musgrave, vLLM throughput-latency sweep on A100 40GB, johnmusgrave.com/p/vllm-throughput-latency-sweep-on"
)

#: Prices are examples to compare policies with, no quotations. ``attention_s`` is computed: 4 * hidden size * layers
#: operations per pair of tokens at 40 % of the GPU's dense peak.
PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile(
            name="demo",
            summary="pleasant to watch: first token after 0.1 to 0.3 s, about 50 tokens/s",
            source="made up for terminals; stands for no GPU",
            iteration_s=0.019,
            prefill_token_s=0.0006,
            attention_s=0.0,
            sequence_s=0.0002,
            context_token_s=1e-8,
            kv_tokens=262_144,
            batch_tokens=512,
            sequences=64,
            context_tokens=32_768,
            intake_s=0.08,
            cost_usd_hour=1.0,
        ),
        Profile(
            name="crowd",
            summary="for tests with thousands of streams: 10 tokens/s each, however many there are",
            source="made up; stands for no GPU",
            iteration_s=0.1,
            prefill_token_s=0.0,
            attention_s=0.0,
            sequence_s=0.0,
            context_token_s=0.0,
            kv_tokens=1 << 27,
            batch_tokens=1 << 20,
            sequences=16_384,
            context_tokens=32_768,
        ),
        Profile(
            name="h100-llama-3.1-8b",
            summary="1 x H100 80GB, Llama 3.1 8B: 216 tokens/s alone, 13 000 in all",
            # Fitted to the table of NIM 1.8.0, 200 tokens in and out: inter-token latency 4.63 ms at 1 request,
            # 5.19 at 25, 7.57 at 100, 12.65 at 200; 12 200 tokens/s at 100. tests/simulation holds it against them.
            source=f"{_NIM} (Llama-3.1-8b-instruct, 1.8.0)",
            iteration_s=0.00463,
            prefill_token_s=2.0e-5,
            attention_s=1.3e-9,
            sequence_s=1.8e-5,
            context_token_s=1.3e-8,
            kv_tokens=450_000,
            batch_tokens=8192,
            sequences=256,
            context_tokens=131_072,
            intake_s=0.0015,
            cost_usd_hour=2.5,
        ),
        Profile(
            name="a100-llama-3.1-8b",
            summary="1 x A100 80GB, Llama 3.1 8B in BF16: 98 tokens/s alone",
            # Decode: 75 tokens/s measured on the 40GB card, scaled by memory bandwidth (1.56 to 2.04 TB/s).
            # Prefill: first token of a 500-token prompt after 48.3 ms.
            source=f"{_SWEEP_A100}; {_NIM_A100}",
            iteration_s=0.0102,
            prefill_token_s=7.6e-5,
            attention_s=4.2e-9,
            sequence_s=2.5e-5,
            context_token_s=6.4e-8,
            kv_tokens=400_000,
            batch_tokens=2048,
            sequences=256,
            context_tokens=131_072,
            intake_s=0.002,
            cost_usd_hour=1.6,
        ),
        Profile(
            name="l4-llama-3.1-8b",
            summary="1 x L4 24GB, Llama 3.1 8B in BF16: 14 tokens/s alone, small KV cache",
            # Computed from the data sheet (300 GB/s, 121 TFLOPS dense) at the share of the peaks that the A100
            # reaches in the sources above: 77 % of the bandwidth, 65 % of the operations.
            source=f"NVIDIA L4 data sheet, scaled by {_SWEEP_A100} and {_NIM_A100}",
            iteration_s=0.0695,
            prefill_token_s=2.0e-4,
            attention_s=1.1e-8,
            sequence_s=6.0e-5,
            context_token_s=4.4e-7,
            kv_tokens=34_000,
            batch_tokens=2048,
            sequences=256,
            context_tokens=16_384,
            intake_s=0.002,
            cost_usd_hour=0.7,
        ),
        Profile(
            name="h100x2-llama-3.3-70b",
            summary="2 x H100 80GB, tensor parallel, Llama 3.3 70B in FP8: 54 tokens/s alone",
            # Fitted to the table of NIM 1.8.0, 5000 tokens in and 500 out: first token after 407 ms and inter-token
            # latency 18.58 ms at 1 request, 38.75 at 25, 59.73 at 50; full at about 95 requests.
            source=f"{_NIM} (Llama-3.3-70b-instruct, 1.8.0, 2 x H100, FP8)",
            iteration_s=0.0185,
            prefill_token_s=6.95e-5,
            attention_s=3.3e-9,
            sequence_s=1.0e-5,
            context_token_s=1.0e-8,
            kv_tokens=500_000,
            batch_tokens=8192,
            sequences=256,
            context_tokens=131_072,
            intake_s=0.002,
            cost_usd_hour=5.0,
        ),
    )
}
