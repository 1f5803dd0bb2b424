"""The cost of a fleet as it grows to a thousand backends and a hundred routers: python -m bench.growth.

deciding  processor time of a decision, by backends
watching  processor time and memory of a router that watches backends and has nothing else to do
sharing   what routers tell each other through the store: bytes, commands, processor time at both ends
telling   how late routers that are far from their store hear of each other
page      a server that all backends of ``watching`` are
"""
