"""Towards operators: the admin API and the reload of the configuration.

admin           the listener: its own port and token
guard           who may use the API
plane           what the API needs from the rest of the process
route           one route: its path, what it takes, who answers
routes          every route, by what it is about
worker_routes   the routes that only the parent of several workers asks
filters         which requests an operator asks for
unknown         the error for a name that nothing has
inputs          checks of query parameters and JSON bodies
replies         JSON answers and errors
views           fleet, keys and records as JSON
region_views    a region as JSON, made of its backends
last_minute     what keys used and backends answered in the last minute
config_views    the configuration in force as JSON, and what of it waits for a restart
quota_views     how far limits are used, as JSON
spenders        who has spent something, by the books
bookkeeper      writes what was spent, and announces thresholds of budgets
budgets         how budgets stand, as metrics
webhook         sends alerts, signed
source_views    sources of backends as JSON, and what they say of each
gpu_views       the GPUs of backends: how busy, what idle ones cost, starved or saturated
gauges          values that are read when metrics are scraped
fleetwide       what all routers that share the store know together
attendance      routers that have died
chronicle       writes the history, and shares it with the other routers
vanished        notes routers that vanish, and that are heard again
overload        notes when this router has more to do than it can
operators       tokens with a name and a role
callers         who has asked, and what is noted of it
shared_entries  entries of the store that every router comes in line with: wishes and faults on purpose
wishes          wishes of operators about backends and regions
notices         which backends and regions go away at a known time
muster          puts the backends of all sources in force
readiness       why nobody could be served
registrations   backends that say themselves where they are, for a time
drains          which backends and regions are drained, shared through the store
shared_faults   faults on purpose, shared through the store
scaling         how many backends run: the owner of what follows
capacity        how many backends there are and how many are needed, kept up to date
autoscalers     the listeners of autoscalers, which have no admin token
keda            the external scaler of KEDA, over gRPC
needed_number   the one number that an autoscaler asks for
keda_messages   its messages as bytes
external_metrics  the same as documents of Kubernetes
dormants        models of which nothing need run: how each is, and the locks that let one router act for all
waking          when they are woken
lulling         when they are put to sleep
starting        the calls that do it: engines, a webhook, the scale subresource of Kubernetes
sleepers        backends whose engines sleep, shared through the store
burn_ins        backends that prove themselves, and who of them is let in
reload          replaces the configuration in force
openapi         the OpenAPI document, made from the routes
"""
