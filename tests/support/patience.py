"""How long tests wait for what must happen, on a machine that may stand still for seconds. Knows nothing else."""

PATIENCE_S = 120.0
"""Only something that is broken lets a test wait this long: it guards against hanging, and measures nothing."""
