"""Simulated engines and worlds: for the demo, for tests, and to ask what would happen.

tokens       the tokeniser of the simulated models
text         what a simulated model says, deterministically
profiles     how fast a GPU serves a model, with sources
kv           the KV cache of an engine
engine       continuous batching in virtual time; pure
live         that engine on the clock of an event loop
shapes/      what vLLM, SGLang and llama.cpp answer, byte for byte where it matters
reading      checks a client's request as the played engine does
generation   one request, from its jobs to its last byte
engine_http  an engine on a socket
control      switches faults of a running engine
faults       what an engine can do wrong
distance     a line to a server far away, which may also be cut
link         network latency and rude endings
run          one engine, or a fleet of child processes, from the command line
fleet        a world of engines as child processes
geography    regions and the round trips between them
world_plan   of what a world consists
site         one router in virtual time
seeds/       generated scenarios, with rules that are checked at every step
scaling      a Deployment in such a world, and what sets its replicas
world        many engines and the production router core in virtual time
workloads    made-up traffic
traces       recorded traffic
replay       one trace under several policies, with intervals
recording    what really ran: the attempts in a journal
calibration  engine profiles fitted to them
cache_size   the KV cache, by what was found in it
measured     a world out of what a running router knows, and what if it were another one
planning     how many backends where, by search
loadgen      load on any OpenAI endpoint
"""
