"""Simulated engines and worlds: for the demo, for tests, and to ask what would happen.

tokens, text   a tokeniser and a deterministic author: what a simulated model says
kv, engine     continuous batching as a pure model in virtual time; profiles: how fast which GPU is
shapes         what vLLM, SGLang and llama.cpp answer, byte for byte where it matters
link, faults   network latency and misbehaviour, in user space
engine_http    an engine on a socket; run, fleet: processes of it
world          many engines and the production router core in virtual time; workloads, traces, replay
"""
