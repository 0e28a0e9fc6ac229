"""Scenarios, suites and the report made from a run directory."""
