"""What the regions say: probes (we ask) and scrapes (we read their metrics)."""
