"""Reproducible measurements of the router and of its peers: `python -m bench`.

backend/         an OpenAI-like engine in C that is never the bottleneck
load/            a load generator in C that checks every byte
peers/           one file per gateway: install, start
routing/         how soon the first token comes under each policy
reliability/     what happens when regions, engines and routers die: python -m bench.reliability
guard/           the check in CI: has the hot path become dearer?
quota/           do routers around the world sell exactly a limit: python -m bench.quota
growth/          what a fleet costs as it grows: python -m bench.growth
scaling/         GPU hours by rule of scaling, at equal first tokens: python -m bench.scaling
variants.py      what smaller variants under load gain: python -m bench.variants
scenarios.py     what is measured, as data
measure.py       one slice: one load on one gateway
run.py           one run: install, start, interleave
report.py        the table
workers/         what a second worker on a second core brings: python -m bench.workers
kernel.py        CPU time and memory as the kernel counts them
processes.py     start, wait, stop
environments.py  installing into bench/.cache
"""
