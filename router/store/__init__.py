"""State that routers share: keys, quotas, drains, and what each has in flight.

``base`` the contract · ``open`` chooses · ``memory`` one process · ``shared`` many routers, over ``redis`` and
``cluster``, the only files that speak it · ``heartbeat`` is it there and is all well · ``access`` what it must permit ·
``purse`` allowances · ``degraded`` while Redis is away · ``notes`` what may be
forgotten · ``embedded`` a private Valkey · ``lua`` the arithmetic of core/quota inside Redis.
"""
