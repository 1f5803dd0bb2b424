"""Has the hot path become dearer? `python -m bench.guard` compares with bench/baseline.json.

instructions  instructions per request and chunk
count         counts them, in a process of its own
play          the router, clients and engines that it counts in
clockwork     an event loop whose time does not pass while it works
store         the shared store of that router
cpu           processor time as a multiple of the reference's
reference     the fixed proxy that is the yardstick
rig           backend, gateway and scenarios for it
"""
