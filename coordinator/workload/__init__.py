"""The load: what bundles do, when they are due, their signing ahead of time, and the open-loop generator.

It does not know how a testnet is started nor how results are read; it is handed addresses, keys and times.
"""
