"""Learns the times of a backend from probes, from scrapes and from the answers that come.

rtt            the round trip
first_token    time to the first token: one line per model, one pace per backend
backlog        how fast the work that waits is done
service        time between tokens, places in the batch, rates
recent         the mean of the latest times of one kind
least_squares  the small linear systems behind the fits
"""
