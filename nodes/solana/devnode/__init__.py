"""A Solana node for development: a real SVM under a small chain with slots, leaders, forks and three levels.

`bank` executes, `chain` orders and rolls back, `ledger` makes it durable, `faults` breaks it, `rpc` serves it.
"""
