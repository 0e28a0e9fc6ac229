"""The control plane: scenarios, launching, load, faults, collection and the command line."""
