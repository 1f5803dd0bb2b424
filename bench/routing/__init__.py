"""How soon the first token comes under each policy: traces through the simulated world, with the production core.

cases     workloads and worlds
play      one run
capacity  what 100 % load is
decide    what one decision costs
hedges    ``python -m bench.routing.hedges``: the worth of hedges
table     the results as text
live      ``python -m bench.routing.live``: other routers beside this one, in real time
"""
