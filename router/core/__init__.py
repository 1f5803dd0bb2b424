"""The decision core: pure and synchronous.

Three rules hold in this folder and import-linter checks the first two:
no I/O, no clock, no randomness of its own (time comes in as ``now_s``, chance as an ``Rng``);
no imports from the rest of ``router``; and no function here ever awaits, so its callers can
decide and count in one uninterrupted step.
"""
