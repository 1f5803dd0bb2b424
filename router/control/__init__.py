"""Towards operators: the admin API and the reload of the configuration."""
