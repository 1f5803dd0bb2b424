"""What ``router demo`` consists of.

ports       free addresses          stage     what runs: engines, one router, a folder that goes away with them
simulated   engines that are not there      real   llama.cpp with a small real model, behind delay_proxy
scenes      what is shown           screen    how it looks
"""
