"""Clocks, trace events and resource samples. The only reader of wall time under `nodes`."""
