"""Everything that runs inside a node process. `nodes.host` builds and runs it; nothing here knows the coordinator."""
