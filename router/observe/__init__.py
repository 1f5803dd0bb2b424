"""Asks backends how they are: probes and metrics pages.

observer    runs a probe loop and a scrape loop for each backend
prober      one probe: round trip, health, models
scraper     one reading of an engine's load
engines     load figures from a metrics page, by ``core/traits.py``
gpus        reads the page with the metrics of a backend's GPUs
exposition  reads wanted samples from a Prometheus page
continuing  whether a live engine can continue an answer that another one began
proving     when it is asked for that
measurement a backend that has to prove itself, measured beside another
survey      what answers at an address: engine, models, distance, size
client      the bounded HTTP client of all these
"""
