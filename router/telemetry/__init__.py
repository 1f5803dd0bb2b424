"""What happened: metrics, the journal of requests, log lines. Fed by one call at the end of each request."""
