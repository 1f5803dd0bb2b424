"""Examples for every command: in its help, in docs/cli.md and in the manual page, and run by tests.

They name what `router demo` has: three regions with two backends each, and the model llama-3.1-8b.
"""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """``line`` is what one types, ``does`` what that is good for."""

    does: str
    line: str


def examples(command: str) -> list[Example]:
    """The examples of a command; ``command`` without the program's name: ``keys show``."""
    return [each for each in every() if f"{each.line} ".startswith(f"router {command} ")]


def every() -> list[Example]:
    lines = [line for line in _TEXT.splitlines() if line]
    return [Example(does.removeprefix("# "), line) for does, line in zip(lines[::2], lines[1::2], strict=True)]


_TEXT = """
# Simulated regions to try things with, until Ctrl-C
router demo
# The same with real engines and a small model, and only the show
router demo --real --once

# Run the router of ./regions.toml
router serve
# Another file, and another address for clients
router serve -c edge.toml --listen 127.0.0.1:8081

# Stream one answer, then say which way it took
router chat "Why is the sky blue?"
# A short one, only in the EU, with the reason for the choice
router chat "Why is the sky blue?" --max-tokens 20 --residency eu --explain

# Is the fleet well? Exit code 4 if the router is not ready
router status
# For scripts
router status --json

# The live view; ? shows its keys
router top
# One frame of its requests, only those that failed
router top requests --once --filter status:5xx

# Why the last request went where it went
router explain last
# Where a prompt would go now, asked from Frankfurt's region
router explain --model llama-3.1-8b --prompt "Hello" --from eu-central
# Where the last request would have gone without a region
router explain last --without us-east

# How many backends each model needs, has, and leaves idle
router capacity

# The changes of the last hour, the newest at the bottom
router events --since 1h
# Health and drains of one region, as they happen
router events -f --region us-east --kind health,drain

# Check the file, the store, every backend, clocks and certificates
router doctor
# The same for another file
router doctor -c edge.toml

# The requests in the journal again, as if a region were gone
router replay journal --without us-east
# A trace, under two policies
router replay trace.jsonl --policy ttft,least_inflight

# How many backends twice the traffic takes
router plan --growth 2 --target-ttft 500ms
# The same for a trace, in the regions of a file
router plan trace.jsonl --regions regions.toml

# Ten seconds of load, eight clients
router bench
# Five requests a second, ten in all, as JSON
router bench --rate 5 -n 10 --json

# The last requests, the newest at the bottom
router traffic list
# The slowest of the last hour in one region
router traffic list --since 1h --region us-east --sort ttft

# Failed requests as they finish
router traffic tail --status 5xx
# One JSON document a line, for other programs
router traffic tail --json

# The last request: why it was slow, where the time went, why there
router traffic show last

# The last five minutes
router traffic stats --window 5m
# The cost of each key and model in a day, the dearest first
router traffic stats --since 24h --by key,model --sort cost

# Who shares the store, which version and configuration each runs
router routers list

# Every region: state, distance, load
router regions list

# A region and its backends
router regions show us-east
# A backend
router regions show us-east/a

# Add a backend to a region; it is asked first what it is
router regions add us-east/c --url http://10.0.0.13:8000
# Add a region with its first backend, though nothing answers there yet
router regions add eu-west/a --url http://10.1.0.11:8000 --engine vllm --jurisdiction eu --force

# Remove a backend from the file
router regions remove us-east/b

# Change a key of a backend in the file
router regions set us-east/a max_inflight=64

# The machine goes away in two minutes
router regions notice us-east/a --in 2m
# It stays
router regions notice us-east/a --cancel

# Send requests there again
router regions resume us-east

# Do its backends answer?
router regions probe us-east

# Send no new requests there for half an hour, and say why
router regions drain us-east --for 30m --reason "kernel upgrade"
# Drain one backend, and wait for its last answers
router regions drain us-east/a --wait

# Is the new backend fit for traffic?
router regions burn-in us-east/b

# Where backends come from, beside the file
router regions sources

# A key with the limits of the plan default
router keys create alice
# With another plan, for a tenant, for a quarter
router keys create batch --plan default --tenant acme --expires 90d

# Every key, also those that are revoked
router keys list --all

# One key, by its name or id
router keys show alice

# Another owner
router keys set alice --tenant acme
# Let it expire
router keys set alice --expires 30d

# A new secret; the old one works for another day
router keys rotate alice --overlap 24h

# Refuse a key from now on, everywhere, without asking first
router keys revoke alice --force

# Who spends most this month
router quota top
# Today, by key and model
router quota top --day --by key,model

# The spending of each tenant this month, by model, for a spreadsheet
router quota export

# Every limit and how much of it is used
router quota show
# Those of one key
router quota show alice

# Let a key begin its minute again
router quota reset alice --minute

# Who may operate the router
router operators list

# Let Anna drain and resume; prints her token
router operators add anna --role operate

# Her token is refused from now on
router operators remove anna

# Which name and role your token has
router operators whoami

# A commented regions.toml to begin with
router config init
# From engines that run
router config init fleet.toml --engine http://127.0.0.1:8000 --region us-east --jurisdiction us

# Is ./regions.toml valid? Every problem with its line
router config check
# In a pipeline: without its secrets, and warnings are errors
router config check regions.toml --no-secrets --strict

# The configuration in force, and what waits for a restart
router config show

# The router's configuration beside its file
router config diff
# Beside another file
router config diff new.toml

# Read the file again
router config reload

# JSON Schema of regions.toml, for editors
router config schema

# Check a new file, show what changes, ask, and put it in place
router config apply new.toml
# The same without the question
router config apply new.toml --yes

# Which earlier files are kept
router config rollback --list
# Back to the one before
router config rollback --yes

# Your routers
router ctx list

# Ask edge-2 from now on
router ctx use edge-2

# A name for a router, with its token
router ctx add edge-2 --admin-url http://10.0.0.2:9090 --token-file edge-2.token

# Forget it
router ctx remove edge-2

# Which router commands ask, and why that one
router ctx show

# Cut every answer of a backend after three tokens, for five minutes
router chaos start us-east/a --cut-after 3 --for 5m
# Slow down a fifth of a region's answers
router chaos start eu-central --slow 3 --share 20%

# End the faults of a backend
router chaos stop us-east/a

# End all faults
router chaos clear

# The faults in force
router chaos list

# Every policy, where it is from and what it does
router policies list

# An engine on a free port
router sim engine --port 0
# One that is as fast as an H100, and behaves like SGLang
router sim engine --engine sglang --profile h100-llama-3.1-8b

# Engines as in three regions, seen from the first
router sim fleet --seen-from us-east
"""
