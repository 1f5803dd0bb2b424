"""The parts of ``router demo``.

ports         free addresses
stage         what runs: engines, one router, a folder that goes away with them
simulated     the simulated engines
real          llama.cpp with a small real model
llama_server  the process of one llama.cpp
delay_proxy   adds the distance to it
scenes        the scenes that are shown
screen        their look in the terminal
"""
