"""The JSON-RPC that a rollup node serves to wallets, explorers and scripts. The engine's own is never exposed."""
