"""Five routers at 1 to 220 ms of one store, and the limits of one key: `python -m bench.quota`.

cost       questions per request, and bytes per key
partition  one region cut off from the store, and what the accounts come to
fleet      the routers, their lines, and what they let in
rounds     the clients move from region to region
region     one router's store in a process of its own, and its clients
"""
