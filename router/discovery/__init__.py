"""Backends that no table of the file names: who they are, as their sources say it.

sources      the owner: one task for each source, and the roll of all backends (core/roll)
dns          follows the addresses or the SRV records of a name
resolver     asks name servers
dns_message  questions and answers of the domain name system, as bytes
kubernetes   follows the EndpointSlices of a selector, their Services and nodes
mirror       a copy of the objects of one kind: listed, then watched
cluster_api  the API of a cluster
slices       what EndpointSlices say of backends
spot         asks whether machines are to go away
spot_words   what clouds answer to that
"""
