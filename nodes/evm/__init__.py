"""The EVM engine: its process, its JSON-RPC, contract bindings and genesis."""
