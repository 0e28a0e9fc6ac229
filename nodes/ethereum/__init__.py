"""Ethereum as a settlement layer: the testbed's own L1 node, and the client of any L1."""
