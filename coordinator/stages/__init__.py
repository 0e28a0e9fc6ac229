"""The verbs of the command line, one file each: up, bench, sweep, verify, show. Each can run alone."""
