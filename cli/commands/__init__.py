"""One file for each group of commands. In each, from top to bottom: the flags, the work, how it looks.

A command parses its flags into an options object and hands it to ``run_…``, which gets the world through ``Context``.

serve     the router itself
status    router and fleet at a glance
top       fleet and traffic, live
traffic   the requests
doctor    what is wrong, and what to do about it
events    the history: what changed, when, why and by whom
explain   why a request went where it went
capacity  how many backends there are, and how many are needed
routers   the routers that share the store
regions   regions and backends
drain     no new requests to one of them
burn_in   whether a backend is fit for traffic
sources   where backends come from, and how each source is
policies  the policies to choose from
config    the file, and what is in force
config_apply  another text in place of the router's file, and back
ctx       routers by name
keys      API keys
operators who may operate the router
quota     how far limits are used
spending  who spends, and the CSV of a month
chaos     injected faults
chat      one prompt and its answer
demo      a small world on this machine
sim       simulated engines
replay    a trace under other policies, or the journal on another fleet
plan      how many backends where
bench     load on an endpoint
"""
