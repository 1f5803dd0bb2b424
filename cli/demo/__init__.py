"""What ``router demo`` consists of.

ports         free addresses
stage         what runs: engines, one router, a folder that goes away with them
simulated     the simulated engines
real          llama.cpp with a small real model
llama_server  the process of one llama.cpp
delay_proxy   the distance to it
scenes        what is shown
screen        how it looks
"""
