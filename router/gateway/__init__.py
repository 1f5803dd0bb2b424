"""Towards clients. Read lifecycle.py first: it is the path of one request from its last byte in to its record.

server     the listener: connections to exchanges, plain GET paths, draining
auth       whose request is it
ingress    what the request asks: a peek at a few fields of untouched bytes
aliases    model names clients use -> models that backends serve
lifecycle  the path of one request
relay      the answer on its way: held until the first content token, then passed on as it comes
responses  the bytes of heads and errors; the only place that turns an error into HTTP
"""
