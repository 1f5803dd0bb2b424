"""What happened: metrics, the journal of requests, log lines. Fed by one call at the end of each request.

build     makes all of it as the configuration says
sink      takes each finished request and hands it to the parts below in batches
costs     what requests have cost, until it is written into the books
journal   the record of every request: a ring in memory, optionally a file
metrics   every metric, as a table
counters  the counters and histograms of this process, and the page that Prometheus scrapes
gen_ai    the metrics of OpenTelemetry's conventions, of the same requests
formats   the page as Prometheus's text or as OpenMetrics
labels    bounds the values of labels
kinds     groups equal requests so that they are counted at once
diary     what a router writes down for itself, to know it after a restart
diary_lines  the lines of it
history   events: what changed for all requests, when, why and by whom
minutes   counts of the last day, by the minute
stats     counts of the last seconds and minutes
logs      formats log lines
text      cleans text of clients and backends before it is written
traces    the trace that a request belongs to, as the W3C has it
tracing   which requests are traced, and which of these are exported
spans     the spans of a finished request
operations  what a request asks for, in OpenTelemetry's words
otlp      OTLP's messages as bytes
trace_export  sends spans to a collector
writer    writes lines from a thread of its own
"""
