"""GPU hours of several rules of scaling on one trace, at the same first tokens: python -m bench.scaling.

rules  what each rule looks at, and the settings it is tried with
"""
