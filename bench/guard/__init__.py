"""Has the hot path become dearer? `python -m bench.guard` compares with bench/baseline.json.

instructions  instructions per request and chunk
count         counts them in a router process
cpu           processor time as a multiple of the reference's
reference     the fixed proxy that is the yardstick
rig           backend, gateway and scenarios for both
"""
