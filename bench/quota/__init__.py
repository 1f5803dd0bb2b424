"""Five routers at 1 to 220 ms of one store, and the limits of one key: `python -m bench.quota`.

cost       questions per request, and bytes per key
region     one router's store in a process of its own, and its clients
"""
