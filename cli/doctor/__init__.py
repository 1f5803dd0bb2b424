"""The checks of ``router doctor``. Each gives symptoms: what was looked at, how it is, and what to do.

symptoms      one line of the answer, and its states
of_file       the configuration file
of_store      Redis or Valkey
of_backends   engines, and their clocks
of_machine    descriptors of this machine
of_certificates  when certificates end
of_router     the running router, if there is one
expiry        reads from a certificate when it ends
"""
