"""Solana: a dev node, clients of any Solana, the inbox program, and the two roles of the Nexus design."""
